"""The load: one run of wrk against one address, whose figures count only if every request got a complete answer.

A script makes wrk print its figures as one line of JSON, so no text for people is parsed. This file does not depend on
the server.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.scenarios import Scenario

_MARK = "figures "
HEAD_BYTES = 1024  # at most, for the head of an answer and the framing of its body; 64 chunks need 700
_ERRORS = ("connect", "read", "write", "status", "timeout")

_DONE = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n%s{"requests":%%d,"elapsed_us":%%d,"bytes":%%d,"p50_us":%%d,"p99_us":%%d,' ..
    '"connect":%%d,"read":%%d,"write":%%d,"status":%%d,"timeout":%%d}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""


class LoadError(Exception):
    """A load that does not count: wrk is missing or failed, or a request or message failed."""


@dataclass(frozen=True, slots=True)
class Load:
    """The figures of one load."""

    requests: int  #: or, over WebSockets, messages that were delivered
    elapsed_s: float
    received_bytes: int  #: heads included, also those of WebSocket messages
    p50_ms: float  #: 0 where latencies are not known
    p99_ms: float
    errors: dict[str, int]  #: by kind, all kinds


def wrk_version() -> str:
    """Return wrk's version. Raises LoadError, with the package's name, if wrk is missing."""
    if shutil.which("wrk") is None:
        raise LoadError("wrk, the load generator, is not on PATH (Debian: apt-get install wrk)")
    done = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)  # it exits with 1
    words = (done.stdout + done.stderr).split()
    return words[1] if len(words) > 1 else "unknown"


def script(scenario: Scenario) -> str:
    """Return the Lua script with which wrk sends the scenario's request. Bodies repeat one letter."""
    lines = [f'wrk.method = "{scenario.method}"']
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in scenario.headers]
    if scenario.body:
        lines.append(f'wrk.body = string.rep("{scenario.body[:1].decode()}", {len(scenario.body)})')
    if scenario.varying:
        lines.append(_VARYING % scenario.varying)
    if scenario.pipelined > 1:
        lines.append(_PIPELINED % scenario.pipelined)
    return "\n".join(lines) + "\n" + _DONE % _MARK


_VARYING = """\
local requests, turn = {}, 0
init = function()
  for client = 1, 64 do
    wrk.headers["%s"] = "198.51.100." .. client
    requests[client] = wrk.format()
  end
end
request = function()
  turn = turn %% 64 + 1
  return requests[turn]
end"""

# wrk counts the requests in the text that `request` returns, and their answers one by one.
_PIPELINED = """\
local batch
init = function() batch = string.rep(wrk.format(), %d) end
request = function() return batch end"""


def parse(output: str) -> Load:
    """Return the figures in wrk's output. Raises LoadError if there are none."""
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if len(lines) != 1:
        raise LoadError(f"wrk printed {len(lines)} lines of figures, not one: {output.strip()[-300:]!r}")
    figures = json.loads(lines[0].removeprefix(_MARK))
    return Load(
        requests=figures["requests"],
        elapsed_s=figures["elapsed_us"] / 1e6,
        received_bytes=figures["bytes"],
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        errors={kind: figures[kind] for kind in _ERRORS},
    )


def check(load: Load, scenario: Scenario) -> None:
    """Raise LoadError unless there were requests, none failed, and the received bytes are enough for their answers.

    More bytes mean that requests were not counted. Allowed are HEAD_BYTES beside each body, and the unfinished answers
    of each connection at the end.
    """
    failed = {kind: count for kind, count in load.errors.items() if count}
    if failed:
        counts = ", ".join(f"{count} {kind}" for kind, count in failed.items())
        raise LoadError(f"errors beside {load.requests} requests: {counts}")
    if not load.requests:
        raise LoadError("no request was answered")
    if load.received_bytes < load.requests * len(scenario.answer):
        mean = load.received_bytes / load.requests
        raise LoadError(f"{mean:.0f} bytes an answer, but each body has {len(scenario.answer)}")
    max_answers = load.requests + scenario.connections * scenario.pipelined
    if load.received_bytes > max_answers * (len(scenario.answer) + HEAD_BYTES):
        raise LoadError(f"{load.received_bytes} bytes received are more than {load.requests} answers")


def drive(port: int, scenario: Scenario, seconds: int, directory: Path) -> Load:
    """Load 127.0.0.1:`port` for `seconds` (whole ones, a limit of wrk) and return the figures. Raises LoadError."""
    path = directory / f"{scenario.name}.lua"
    path.write_text(script(scenario))
    command = ["wrk", "--threads", "1", "--connections", str(scenario.connections), "--duration", f"{seconds}s"]
    command += ["--script", str(path), f"http://127.0.0.1:{port}{scenario.path}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        raise LoadError(f"wrk did not end within {seconds + 30} s") from None
    if done.returncode:
        raise LoadError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    load = parse(done.stdout)
    check(load, scenario)
    if scenario.pipelined > 1:  # wrk times whole batches as if each were one request
        load = replace(load, p50_ms=0.0, p99_ms=0.0)
    return load
