"""A module may run an event loop while it is imported, and register a function for the exit of its worker."""

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


def test_a_module_may_run_an_event_loop_and_register_an_exit_function(start: Start, tmp_path: Path) -> None:
    """No event loop runs at that time, so Django allows its queries, too. A worker ends with the exit of Python."""
    (tmp_path / "module.py").write_text(MODULE)
    daemon = start("module:application", app={"directory": str(tmp_path)}, workers={"count": 1})

    assert b"from a loop of its own" == get(daemon.address(), "/").body
    assert not (tmp_path / "left").exists()
    assert 0 == daemon.stop()
    assert (tmp_path / "left").exists()
