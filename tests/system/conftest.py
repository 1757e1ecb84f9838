"""Marks the tests of this folder as `system`: `make test` skips them, because they need programs that pip lacks."""

import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

HERE = Path(__file__).parent
Run = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("system")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start programs in the background: `run("nginx", "-c", file)` returns the file with its output.

    At the end of the test each receives TERM, and KILL after ten seconds.
    """
    with ExitStack() as stack:

        def start(*command: str) -> Path:
            output = tmp_path / f"{Path(command[0]).name}.log"
            file = stack.enter_context(output.open("ab"))
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=tmp_path)
            stack.callback(_end, process)
            return output

        yield start


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@pytest.fixture
def port() -> Callable[[], int]:
    """Return a function that returns a free port, for programs that cannot let the kernel choose one and report it.

    The port is below the ephemeral range, because another process could get one of that range before the program.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    def free() -> int:
        for _ in range(100):
            with suppress(OSError), socket.create_server(("127.0.0.1", random.randrange(lowest // 2, lowest))) as one:
                number: int = one.getsockname()[1]
                return number
        raise AssertionError(f"a hundred ports below {lowest} are taken")

    return free
