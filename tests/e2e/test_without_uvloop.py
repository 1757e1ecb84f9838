"""Where uvloop is not installed, asyncio's own event loop serves."""

from pathlib import Path

from tests.client import get
from tests.conftest import Start

#: Python imports a module of this name at its start; to the import system uvloop is then not there.
HIDE = "import sys\n\nsys.modules['uvloop'] = None\n"


def test_asyncio_serves_with_one_warning(start: Start, tmp_path: Path, monkeypatch) -> None:
    """Both workers answer, a reload works, and the operator is told once."""
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = start("hello:application", workers={"count": 2})

    assert get(daemon.address()).status == 200
    assert daemon.reload()["event"] == "reload committed"
    assert get(daemon.address()).status == 200
    assert len(daemon.log_events("uvloop is not installed: asyncio's own event loop serves, slower")) == 1
    (sample,) = [labels for name, labels in daemon.metrics() if name == "asgid_build_info"]
    assert dict(sample)["loop"] == "asyncio"
