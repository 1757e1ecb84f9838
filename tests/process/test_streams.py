"""A standard stream of any kind receives log lines, under each of its names."""

import json
import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["stdout", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_stream_that_is_a_socket_receives_lines_under_every_name(name: str) -> None:
    """The stream of systemd's journal is a socket, which open(2) refuses to open again."""
    ours, theirs = socket.socketpair()
    program = (
        f"from asgid.log import Log; log = Log(output={name!r}); log.info('once'); log.reopen(); log.info('twice')"
    )
    with ours, theirs:
        subprocess.run([sys.executable, "-c", program], stdout=theirs.fileno(), check=True)
        theirs.close()
        with ours.makefile() as lines:
            events = [json.loads(line)["event"] for line in lines]

    assert events == ["once", "twice"]
