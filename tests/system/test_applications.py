"""Third-party applications, each with its own client, over a HUP: no request fails, and no response is lost."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.daemon import Daemon, eventually
from tests.system import environments, needs
from tests.system.browser import Browser, Tab

pytestmark = pytest.mark.timeout(900)  # the first run installs an environment with about a hundred packages

HERE = environments.APPLICATIONS
#: The proxy of LiteLLM does not start with a key that is easy to guess.
KEY = "sk-of-a-test-that-nobody-else-asks-4d1f0c7be2"
SLOW_S = 240  #: an import can take half a minute on a slow machine
#: The scripts and styles above 4000 bytes that arrived uncompressed.
UNCOMPRESSED = """performance.getEntriesByType('resource').filter(
    each => /[.](js|css)$/.test(each.name) && each.decodedBodySize > 4000
).filter(each => each.encodedBodySize >= each.decodedBodySize).map(each => each.name)"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def begin(launch: Start, name: str, target: str, environment: dict[str, str], **tables: Any) -> Daemon:
    """Start one worker of an application in the environment of `name`, without the variables that pytest sets.

    An application could detect them: NiceGUI, for example, does not compress in a test.
    """
    daemon = launch(
        target,
        program=environments.programs(name) / "asgid",
        app={"directory": str(HERE)},
        workers={"count": 1},
        timeouts={"boot": f"{SLOW_S}s", "graceful": "20s"},
        prefix=("env", "--unset=PYTEST_CURRENT_TEST", "--unset=PYTEST_VERSION"),
        environment=environment,
        **tables,
    )
    eventually(daemon._is_up, within=SLOW_S)
    return daemon


def reload(daemon: Daemon) -> int:
    """Reload, and return the pid of the new worker."""
    old = daemon.workers()
    assert daemon.reload(within=SLOW_S)["event"] == "reload committed"
    (new,) = [pid for pid in daemon.workers() if pid not in old]
    return new


def failures(daemon: Daemon) -> list[dict[str, Any]]:
    """Return the warnings and errors that asgid logged, except the one for a start as root."""
    events = [each for each in daemon.log_events() if each["level"] in ("warning", "error")]
    return [each for each in events if "runs as root" not in each["event"]]


@contextmanager
def running_client(name: str, *command: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a client from `applications/` in the environment of `name`; kills it at the end."""
    program = [str(environments.programs(name) / "python"), *command]
    with subprocess.Popen(program, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: "subprocess.Popen[str]", word: str) -> list[str]:
    """Return the words of the next line that begins with `word`."""
    assert process.stdout
    for each in process.stdout:
        if each.startswith(word):
            return each.split()
    raise AssertionError(f"it ended before it wrote {word!r}, with {process.wait()}")


def write(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdin
    process.stdin.write(text)
    process.stdin.flush()


# -- the MCP SDK -------------------------------------------------------------------------------------------------------


def test_a_tool_call_continues_over_a_reload(launch: Start, gate: Path) -> None:
    """Streamable HTTP: the call ends in the old worker, and the next call of that client reaches the new one."""
    daemon = begin(launch, "mcp", "with_mcp:streamable", {"GATE": str(gate)})
    (old,) = daemon.workers()
    with running_client("mcp", "client_mcp.py", "streamable", daemon.url) as client:
        assert line(client, "tools") == ["tools", "wait"]
        write(client, "call\n")
        line(client, "progress 3")
        new = reload(daemon)
        gate.touch()
        assert line(client, "result") == ["result", str(old)]
        eventually(lambda: daemon.workers() == [new])
        write(client, "call\n")
        assert line(client, "result") == ["result", str(new)]
        client.communicate()
        assert client.returncode == 0

    assert failures(daemon) == []


def test_a_tool_call_over_sse_continues_over_a_reload(launch: Start, gate: Path) -> None:
    """SSE: the old worker keeps the session until its client leaves, and a new client reaches the new worker."""
    daemon = begin(launch, "mcp", "with_mcp:sse", {"GATE": str(gate)})
    (old,) = daemon.workers()
    with running_client("mcp", "client_mcp.py", "sse", daemon.url) as client:
        write(client, "call\n")
        line(client, "progress 3")
        new = reload(daemon)
        gate.touch()
        assert line(client, "result") == ["result", str(old)]
        client.communicate()
        assert client.returncode == 0
    eventually(lambda: daemon.workers() == [new])
    with running_client("mcp", "client_mcp.py", "sse", daemon.url) as client:
        write(client, "call\n")
        assert line(client, "result") == ["result", str(new)]
        client.communicate()
        assert client.returncode == 0

    assert failures(daemon) == []


# -- LiteLLM -----------------------------------------------------------------------------------------------------------


def test_requests_to_a_model_succeed_over_a_reload(launch: Start) -> None:
    """Whole answers and streams reach a client that never repeats a request."""
    environment = {
        "CONFIG_FILE_PATH": str(HERE / "litellm.yaml"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise LiteLLM downloads it
        "LITELLM_MASTER_KEY": KEY,
    }
    daemon = begin(launch, "litellm", "litellm.proxy.proxy_server:app", environment)
    with running_client("litellm", "client_litellm.py", daemon.url, KEY) as client:
        assert int(line(client, "asked")[1]) > 3
        new = reload(daemon)
        eventually(lambda: daemon.workers() == [new])
        for _ in range(3):
            line(client, "asked")
        out, _ = client.communicate()
        assert out.endswith("left\n")
        assert client.returncode == 0

    assert failures(daemon) == []


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    chromium = needs.program("chromium")
    needs.program("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    directory = tmp_path / "browser"
    directory.mkdir()
    with Browser(chromium, directory) as browser:
        yield browser


def fill(tab: Tab, selector: str, text: str) -> None:
    tab.ask(f"document.querySelector({selector!r}).focus()")
    tab.ask(f"document.querySelector({selector!r}).select()")
    tab.command("Input.insertText", text=text)


def test_a_form_of_gradio_works_and_its_job_continues_over_a_reload(
    launch: Start, gate: Path, browser: Browser
) -> None:
    """Gradio compresses its scripts with Brotli; a job ends in the old worker, and the page then uses the new one."""
    environment = {"GATE": str(gate), "GRADIO_ANALYTICS_ENABLED": "False"}
    daemon = begin(launch, "gradio", "with_gradio:application", environment)
    (old,) = daemon.workers()
    tab = browser.open(f"{daemon.url}/")
    tab.eventually("!!document.querySelector('#greet')")
    fill(tab, "#name textarea", "world")
    tab.ask("document.querySelector('#greet').click()")
    tab.eventually("document.querySelector('#greeting textarea').value === 'Hello, world!'")
    assert tab.ask(UNCOMPRESSED) == []

    tab.ask("document.querySelector('#wait').click()")
    tab.eventually("document.querySelector('#waited textarea').value === '3'")
    tab.ask("window.isTheSamePage = true")
    new = reload(daemon)
    gate.touch()
    tab.eventually("document.querySelector('#waited textarea').value.startsWith('open after ')")
    assert tab.ask("document.querySelector('#waited textarea').value").endswith(f" in {old}")
    eventually(lambda: daemon.workers() == [new])
    fill(tab, "#name textarea", "new world")
    tab.ask("document.querySelector('#greet').click()")
    tab.eventually("document.querySelector('#greeting textarea').value === 'Hello, new world!'")

    assert tab.ask("window.isTheSamePage")
    assert ([], []) == (browser.complaints, browser.errors)
    assert failures(daemon) == []


def test_a_page_of_nicegui_works_and_connects_once_more_after_a_reload(launch: Start, browser: Browser) -> None:
    """NiceGUI compresses its scripts with gzip; after the reload the page loads at most once more."""
    daemon = begin(launch, "nicegui", "with_nicegui:application", {})
    tab = browser.open("about:blank")
    tab.command(
        "Page.addScriptToEvaluateOnNewDocument", source="sessionStorage.loads = 1 + +(sessionStorage.loads || 0)"
    )
    tab.command("Page.navigate", url=f"{daemon.url}/")
    tab.eventually("document.readyState === 'complete' && !!document.querySelector('#click')")
    _click(tab)
    assert tab.ask(UNCOMPRESSED) == []

    new = reload(daemon)
    tab.eventually(f"document.querySelector('#process')?.textContent === '{new}'")
    eventually(lambda: daemon.workers() == [new])
    _click(tab)

    assert tab.ask("+sessionStorage.loads") <= 2
    assert ([], []) == (browser.complaints, browser.errors)
    assert failures(daemon) == []


def _click(tab: Tab) -> None:
    """Click after the page has connected, because an earlier click is lost."""
    before = int(tab.ask("document.querySelector('#clicks').textContent"))
    tab.eventually("window.did_handshake")
    tab.ask("document.querySelector('#click').click()")
    tab.eventually(f"document.querySelector('#clicks').textContent === '{before + 1}'")
