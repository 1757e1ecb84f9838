"""Controls headless Chromium over its DevTools protocol: opens tabs, evaluates expressions and takes screenshots.

One WebSocket to the browser carries every tab's commands (the protocol's "flat" sessions). Each command waits for its
answer; the errors that pages report meanwhile are kept. This module does not depend on any page.
"""

import base64
import itertools
import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from tests.daemon import WITHIN_S, eventually

#: Root has no sandbox. The browser connects only to the test, and a tab in the background runs at full speed.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"),
    *("--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-default-apps", "--disable-extensions", "--metrics-recording-only"),
    *("--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows"),
    *("--disable-renderer-backgrounding", "--remote-debugging-port=0", "--window-size=900,600"),
)


class Browser:
    """A browser with its own profile in `directory`; it runs during its `with` block."""

    def __init__(self, program: str, directory: Path) -> None:
        self.program = program
        self.directory = directory
        self.complaints: list[str] = []  #: uncaught exceptions of all pages, in order
        self.errors: list[str] = []  #: errors in their consoles: those that pages logged, and failed fetches

    def __enter__(self) -> Self:
        profile = self.directory / "profile"
        with ExitStack() as stack:
            log = stack.enter_context((self.directory / "chromium.log").open("ab"))
            command = [self.program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stack.callback(_end, process)
            port, path = eventually(lambda: _complete(profile / "DevToolsActivePort"), within=60)
            line = connect(
                f"ws://127.0.0.1:{port}{path}", max_size=None, ping_interval=None, proxy=None, compression=None
            )
            self._line: ClientConnection = stack.enter_context(line)
            self._ids = itertools.count(1)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def open(self, url: str) -> "Tab":
        """Open `url` in a new tab, and return the tab when its scripts have run."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        tab = Tab(self, self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        tab.command("Runtime.enable")
        tab.command("Log.enable")
        tab.command("Page.enable")
        tab.command("Page.navigate", url=url)
        tab.eventually(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")
        return tab

    def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; raises AssertionError with the browser's error."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        self._line.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while (answer := json.loads(self._line.recv(timeout=WITHIN_S))).get("id") != number:
            self._note(answer["method"], answer["params"])
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _note(self, event: str, parameters: dict[str, Any]) -> None:
        """Keep the event if it reports an error of a page."""
        if event == "Runtime.exceptionThrown":
            self.complaints.append(_text_of(parameters["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.errors.append(" ".join(str(each.get("value", each)) for each in parameters["args"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")


class Tab:
    """One page of a Browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.command(method, self.session, **parameters)

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression as decoded JSON; waits for a promise."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {_text_of(answer['exceptionDetails'])}"
        return answer["result"].get("value")

    def eventually(self, expression: str, within: float = WITHIN_S) -> Any:
        """Return the first true value of `expression`; raises AssertionError after `within` seconds."""
        return eventually(lambda: self.ask(expression), within)

    def type(self, selector: str, text: str) -> None:
        """Type `text` into the field at `selector`, and Enter."""
        self.ask(f"document.querySelector({json.dumps(selector)}).focus()")
        self.command("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r")

    def photograph(self, file: Path) -> None:
        """Write a screenshot of the tab to a PNG file."""
        self.command("Page.bringToFront")
        file.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # it ends its own children
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _complete(file: Path) -> list[str]:
    """Return the two lines of the file with the browser's port and path, or [] while it is incomplete."""
    lines = file.read_text().split("\n") if file.exists() else []
    return lines if len(lines) >= 2 else []


def _text_of(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])
