"""The examples in a real browser: event streams and WebSockets connect again by themselves after a reload."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.system import needs
from tests.system.browser import Browser

EXAMPLES = Path(__file__).parents[2] / "examples"
TABS = 3


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    chromium = needs.program("chromium")
    needs.program("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    directory = tmp_path / "browser"
    directory.mkdir()
    with Browser(chromium, directory) as browser:
        yield browser


def test_the_countdown_in_three_tabs_continues_after_a_reload(start: Start, browser: Browser, tmp_path: Path) -> None:
    """One worker streams to all; after its replacement each EventSource connects again and continues its countdown."""
    daemon = start(
        "countdown:application",
        app={
            "directory": str(EXAMPLES / "django_countdown"),
            "env": {"COUNTDOWN_FROM": "10000", "COUNTDOWN_PACE_S": "0.1"},
        },
        workers={"count": 1},
        timeouts={"graceful": "1s"},
    )
    (old,) = daemon.workers()
    tabs = [browser.open(f"{daemon.url}/") for _ in range(TABS)]
    for tab in tabs:
        tab.ask("window.seen = []; stream.addEventListener('i', event => seen.push(JSON.parse(event.data).i))")
        tab.ask("window.opened = 0; stream.addEventListener('open', () => opened++)")
    for tab in tabs:
        tab.eventually("seen.length >= 5")
    assert daemon.reload()["event"] == "reload committed"
    daemon.eventually(lambda: daemon.workers() and old not in daemon.workers())
    for tab in tabs:
        tab.eventually("opened >= 1")  # Chromium waits three seconds
        came = tab.ask("seen.length")
        tab.eventually(f"seen.length >= {came + 5}")
    tabs[0].photograph(tmp_path / "countdown.png")

    for tab in tabs:
        numbers = tab.ask("seen")
        assert list(range(numbers[0], numbers[0] - len(numbers), -1)) == numbers
        assert tab.ask("line.textContent") == "counting"
    assert browser.complaints == []


def test_a_chat_of_three_tabs_continues_after_a_reload(start: Start, browser: Browser, tmp_path: Path) -> None:
    """Each WebSocket is closed with 1012, each page connects again, and a later message reaches all of them."""
    daemon = start(
        "chat:application", app={"directory": str(EXAMPLES)}, workers={"count": 1}, timeouts={"graceful": "1s"}
    )
    (old,) = daemon.workers()
    tabs = [browser.open(f"{daemon.url}/") for _ in range(TABS)]
    for tab in tabs:
        tab.eventually(f"line.textContent === '{TABS} here'")
        tab.ask(
            "window.codes = []; socket.addEventListener('close', event => codes.push([event.code, event.wasClean]))"
        )
    tabs[0].type("#text", "before <i>the</i> reload, größer als 💬")
    for tab in tabs:
        tab.eventually("messages.textContent.includes('before <i>the</i> reload, größer als 💬')")

    assert daemon.reload()["event"] == "reload committed"
    daemon.eventually(lambda: daemon.workers() and old not in daemon.workers())
    for tab in tabs:
        tab.eventually(f"line.textContent === '{TABS} here' && codes.length")
    tabs[1].type("#text", "after it")
    for tab in tabs:
        tab.eventually("messages.textContent.includes('after it')")
    tabs[0].photograph(tmp_path / "chat.png")

    assert [[[1012, True]]] * TABS == [tab.ask("codes") for tab in tabs]
    assert [2] * TABS == [tab.ask("messages.children.length") for tab in tabs]
    assert daemon.metric("asgid_connections", state="websocket") == TABS
    assert daemon.metric("asgid_websocket_closes_total", code="1012") == TABS
    assert browser.complaints == []
