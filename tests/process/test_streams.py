"""A standard stream of any kind takes log lines, by each of its names."""

import json
import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["stdout", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_stream_that_is_a_socket_is_written_to_by_every_name(name: str) -> None:
    """As systemd's journal is: open(2) refuses a socket, so it is not opened anew."""
    ours, theirs = socket.socketpair()
    program = (
        f"from asgid.log import Log; log = Log(output={name!r}); log.info('heard'); log.reopen(); log.info('twice')"
    )
    with ours, theirs:
        subprocess.run([sys.executable, "-c", program], stdout=theirs.fileno(), check=True)
        theirs.close()
        with ours.makefile() as lines:
            events = [json.loads(line)["event"] for line in lines]

    assert events == ["heard", "twice"]
