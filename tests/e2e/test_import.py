"""What a module may do while it is imported, and its process when it ends."""

from pathlib import Path

from tests.client import get
from tests.conftest import Start

MODULE = """
import asyncio, atexit, pathlib

async def settings():
    await asyncio.sleep(0)
    return b"from a loop of its own"

text = asyncio.run(settings())
atexit.register(pathlib.Path(__file__).with_name("left").touch)

def application(environ, start_response):
    start_response("200 OK", [])
    return [text]
"""


def test_a_module_may_run_a_loop_and_leave_something_for_the_exit(start: Start, tmp_path: Path) -> None:
    """No loop turns yet, so Django answers queries there, too; and the end of a worker is an exit of Python."""
    (tmp_path / "module.py").write_text(MODULE)
    daemon = start("module:application", app={"directory": str(tmp_path)}, workers={"count": 1})

    assert b"from a loop of its own" == get(daemon.address(), "/").body
    assert not (tmp_path / "left").exists()
    assert 0 == daemon.stop()
    assert (tmp_path / "left").exists()
