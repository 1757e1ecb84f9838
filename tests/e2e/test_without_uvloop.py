"""Without uvloop asyncio's own event loop serves."""

from pathlib import Path

from tests.client import Client, get
from tests.conftest import Start

#: Python imports a module named `sitecustomize` at its start; this one makes each import of uvloop fail.
HIDE = "import sys\n\nsys.modules['uvloop'] = None\n"


def test_asyncio_serves_with_one_warning(start: Start, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = start("hello:application", workers={"count": 2})

    assert get(daemon.address()).status == 200
    assert daemon.reload()["event"] == "reload committed"
    assert get(daemon.address()).status == 200
    assert len(daemon.log_events("uvloop is not installed: asyncio's own event loop serves, slower")) == 1
    (sample,) = [labels for name, labels in daemon.metrics() if name == "asgid_build_info"]
    assert dict(sample)["loop"] == "asyncio"


def test_a_worker_without_descriptors_logs_it_once(start: Start, tmp_path: Path, monkeypatch) -> None:
    """asyncio reports it `listen.backlog` times a second. A new client waits in the queue and is served afterwards."""
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = start("grabs:application", workers={"count": 1})
    with Client(daemon.address()) as first:
        assert first.get("/grab").body != b"0"
        with Client(daemon.address()) as second:
            second.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            daemon.eventually(lambda: daemon.log_events("accepting pauses"))
            assert first.get("/").body == b"0"
            assert second.answer().status == 200

    assert len(daemon.log_events("accepting pauses")) == 1
    assert not daemon.log_events("unhandled in the event loop")
