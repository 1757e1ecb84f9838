"""A deployment moves a link to the next release: each generation of workers imports from one release, at any time."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.client import get
from tests.conftest import Start
from tests.daemon import Daemon, is_alive

_APPLICATION = """
async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"release %d"})
"""


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """Three releases, of which the third cannot be imported, and the link `current` to the first one."""
    for number, text in ((1, _APPLICATION % 1), (2, _APPLICATION % 2), (3, "raise RuntimeError('broken')")):
        (tmp_path / f"r{number}").mkdir()
        (tmp_path / f"r{number}" / "shop.py").write_text(text)
    (tmp_path / "current").symlink_to("r1")
    return tmp_path


def deploy(releases: Path, number: int) -> None:
    """Point `current` to another release as a deployment does: the link exists at each moment."""
    (releases / "next").symlink_to(f"r{number}")
    (releases / "next").replace(releases / "current")


def answer(daemon: Daemon) -> bytes:
    return get(daemon.address()).body


def replace_worker(daemon: Daemon) -> None:
    """Kill the newest worker and wait for its replacement; an older worker may be one that drains."""
    ready = daemon.log_events("worker ready")
    os.kill(ready[-1]["pid"], signal.SIGKILL)
    daemon.eventually(lambda: len(daemon.log_events("worker ready")) > len(ready))


def by_setting(releases: Path) -> dict[str, object]:
    return {"app": {"directory": str(releases / "current")}}


def in_the_link(releases: Path) -> dict[str, object]:
    """Return the tables of a daemon that a shell starts in the link; the path of its settings is absolute."""
    script = f'home=$PWD && cd {releases}/current && exec "$0" -c "$home/asgid.toml"'
    return {"app": {"directory": "."}, "prefix": ("bash", "-c", script)}


HOW = {"in a link": in_the_link, "by a setting": by_setting}


@pytest.mark.parametrize("how", HOW)
def test_a_reload_serves_the_release_that_the_link_leads_to(start: Start, releases: Path, how: str) -> None:
    """Also if the shell was in the link, which the kernel resolves to r1. The first release may be removed then."""
    daemon = start("shop:application", workers={"count": 1}, **HOW[how](releases))

    assert answer(daemon) == b"release 1"

    deploy(releases, 2)
    replace_worker(daemon)

    assert answer(daemon) == b"release 1", "no reload was requested"
    assert daemon.reload()["event"] == "reload committed"
    # Until a worker has read its order to drain, it may accept a connection.
    daemon.eventually(lambda: daemon.log_events("worker exited", reason="reload"))
    assert answer(daemon) == b"release 2"

    shutil.rmtree(releases / "r1")
    replace_worker(daemon)

    assert answer(daemon) == b"release 2"
    assert daemon.reload()["event"] == "reload committed"


@pytest.mark.parametrize("how", HOW)
def test_after_a_roll_back_a_worker_imports_its_own_release(start: Start, releases: Path, how: str) -> None:
    """The link leads to the broken release, from which a worker could not boot."""
    daemon = start("shop:application", workers={"count": 1}, **HOW[how](releases))
    deploy(releases, 3)

    assert daemon.reload()["event"] == "reload rolled back"

    replace_worker(daemon)

    assert answer(daemon) == b"release 1"
    assert daemon.log_events("worker exited", reason="boot_failed", generation=1) == []


def test_an_upgrade_starts_in_the_release_that_the_link_leads_to(start: Start, releases: Path) -> None:
    daemon = start("shop:application", workers={"count": 1}, **in_the_link(releases))
    deploy(releases, 3)
    daemon.signal("USR2")
    refused = daemon.eventually(lambda: daemon.log_events("upgrade refused"))[0]

    assert "broken" in refused["reason"]
    assert answer(daemon) == b"release 1"

    deploy(releases, 2)
    daemon.signal("USR2")
    daemon.eventually(lambda: daemon.log_events("reload committed"))
    daemon.eventually(lambda: daemon.log_events("worker exited", reason="reload"))

    assert answer(daemon) == b"release 2"

    deploy(releases, 1)
    old = daemon.workers()

    assert daemon.reload()["event"] == "reload committed"
    daemon.eventually(lambda: not any(is_alive(pid) for pid in old))
    assert answer(daemon) == b"release 1"
