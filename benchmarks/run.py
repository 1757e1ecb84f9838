"""The run: every server under every scenario, interleaved, then the report.

The order is A B C A B C, with one server alive at a time. So a disturbance of a minute affects all of them, no other
server runs beside the measured one, and its memory belongs to one scenario. Each start is warmed up before it counts.
"""

import argparse
import json
import os
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report
from benchmarks.clients import client
from benchmarks.figures import Measurement, Results
from benchmarks.load import LoadError, wrk_version
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.servers import (
    ROOT,
    SERVERS,
    MissingError,
    Server,
    ServerError,
    build,
    commit,
    distribution_version,
    last_words,
    pinned,
    running,
)

WARM_UP_S = 1  # the minimum of wrk
_HERE = Path(__file__).resolve().parent


def main(words: Sequence[str] | None = None) -> int:
    """Run by the command line; return 0, or 1 if wrk is missing or a measurement was refused."""
    options = _options(words)
    try:
        tool = wrk_version()
    except LoadError as error:
        _print_progress(str(error))
        return 1
    scenarios = [SCENARIOS[name] for name in options.scenario or SCENARIOS]
    wanted = [SERVERS[name] for name in options.server or SERVERS]
    with tempfile.TemporaryDirectory(prefix="asgid-bench-") as name:
        results = _run(wanted, scenarios, options, tool, Path(name))
    out = destination(options)
    notes = {server.name: server.note for server in wanted}
    notes |= {scenario.framework: f"the application of {scenario.name}" for scenario in scenarios}
    if out is None:
        print(report.markdown(results, scenarios, notes))
    else:
        _write(results, scenarios, notes, out)
    return 1 if results.refused or not results.measurements else 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this one (repeatable)")
    parser.add_argument("--server", action="append", choices=SERVERS, help="only this one (repeatable)")
    parser.add_argument("--rounds", type=_positive, default=5, help="how often each pair is measured (%(default)s)")
    parser.add_argument("--seconds", type=_positive, default=2, help="of load in each, whole ones (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: a check that everything runs")
    parser.add_argument("--pin", action="store_true", help="server on the first core, wrk on the second")
    parser.add_argument(
        "--out", type=Path, help="folder of RESULTS.md, results.json, results.svg (benchmarks; a part of a run prints)"
    )
    options = parser.parse_args(words)
    if options.quick:
        options.rounds = options.seconds = 1
    if options.pin and len(os.sched_getaffinity(0)) < 2:
        parser.error("--pin needs two cores, and this process may use one")
    return options


def destination(options: argparse.Namespace) -> Path | None:
    """Return the folder for the report; None prints it, so that a part of a run does not replace a whole one."""
    is_part = options.quick or options.server or options.scenario
    return options.out or (None if is_part else _HERE)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _run(
    wanted: Sequence[Server], scenarios: Sequence[Scenario], options: argparse.Namespace, tool: str, directory: Path
) -> Results:
    machine = _machine(options, tool)
    versions, skipped = {}, {}
    for server in wanted:
        try:
            version = server.version()
            build(server, directory)
        except MissingError as error:
            skipped[server.name] = str(error)
        else:
            versions[server.name] = version
    for framework in dict.fromkeys(scenario.framework for scenario in scenarios if scenario.framework):
        try:
            versions[framework] = distribution_version(framework)
        except MissingError as error:
            skipped[framework] = str(error)
    for name, reason in skipped.items():
        _print_progress(f"without {name}: {reason}")
    turns = [
        (number, scenario, server)
        for number in range(1, options.rounds + 1)
        for scenario in scenarios
        for server in wanted
        if server.can_play(scenario) and not {server.name, scenario.framework} & skipped.keys()
    ]
    expected_s = len(turns) * (WARM_UP_S + options.seconds + 0.8)  # for start, measurement and end
    _print_progress(f"{len(turns)} measurements, about {expected_s / 60:.0f} minutes")
    measurements, refused = [], []
    for number, scenario, server in turns:
        place = f"round {number}, {scenario.name}, {server.name}"
        try:
            measurement = _measure(server, scenario, number, options, directory)
        except (ServerError, LoadError) as error:
            refused.append(f"{place}: {error}")
            _print_progress(f"refused: {refused[-1]}; its log ends with: {last_words(server, directory) or 'nothing'}")
        else:
            measurements.append(measurement)
            _print_progress(
                f"{place}: {measurement.cpu_us:.1f} µs, {measurement.requests_per_s:.0f} {scenario.unit}s/s"
            )
    return Results(machine, versions, skipped, refused, measurements)


def _measure(
    server: Server, scenario: Scenario, number: int, options: argparse.Namespace, directory: Path
) -> Measurement:
    server_core, tool_core = sorted(os.sched_getaffinity(0))[:2] if options.pin else (None, None)
    with running(server, scenario, directory, server_core) as instance, pinned(tool_core):
        with client(instance.port, scenario, directory) as drive:
            warm_up = drive(WARM_UP_S)
            seconds = options.seconds
            if not scenario.keep_alive:
                seconds = affordable_seconds(seconds, warm_up.requests / warm_up.elapsed_s, _client_ports())
            before = instance.usage()
            load = drive(seconds)
            after = instance.usage()
            if before.pids != after.pids:
                gone, come = sorted(before.pids - after.pids), sorted(after.pids - before.pids)
                raise ServerError(f"its processes changed under load: gone {gone}, come {come}")
            resident = instance.resident_bytes()
        way = instance.check_answer(scenario)  # wrk counts bytes and does not compare bodies
        if scenario.has_access_log:
            instance.check_access_log(warm_up.requests + load.requests)
    return Measurement(
        server.name,
        scenario.name,
        number,
        load.requests,
        load.elapsed_s,
        after.cpu_s - before.cpu_s,
        load.p50_ms,
        load.p99_ms,
        resident,
        load.received_bytes / load.requests,
        way,
    )


def affordable_seconds(wanted: int, connections_per_s: float, ports: int) -> int:
    """Return the seconds, at least 1, for which a load can open that many connections with each client port used once.

    A closed connection keeps its pair of ports for up to a minute (TIME_WAIT). Each start of a server has a port of its
    own, and so unused pairs.
    """
    return max(1, min(wanted, int(ports / connections_per_s)))


def _client_ports() -> int:
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    return int(last) - int(first) + 1


def _machine(options: argparse.Namespace, tool: str) -> dict[str, str]:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    placed = "server on one, wrk on another" if options.pin else "nothing is pinned"
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(ROOT) or "unknown",
        "processor": models[0] if models else platform.machine(),
        "cores": f"{cores}, {placed}",
        "load averages before": " ".join(f"{value:.2f}" for value in os.getloadavg()) + " (1, 5, 15 minutes)",
        "kernel": platform.release(),
        "Python": f"{platform.python_version()}, {optimisations(sysconfig.get_config_vars())}",
        "load generator": f"wrk {tool}, one thread; for WebSockets this Python, one thread",
        "rounds": f"{options.rounds}, each {WARM_UP_S} s to warm up, then {options.seconds} s",
    }


def optimisations(build: Mapping[str, object]) -> str:
    """Return whether the build variables of Python have profile-guided and link-time optimisation.

    A request to the same server cost 20.4 µs on a build without them, and 16.0 µs on Debian's, which has them but
    removes the flags from its variables.
    """
    words = " ".join(str(build.get(name)) for name in ("CONFIG_ARGS", "PY_CORE_CFLAGS", "PY_CORE_LDFLAGS"))
    marks = {"PGO": ("--enable-optimizations", "-fprofile-use"), "LTO": ("--with-lto", "-flto")}
    found = [name for name, flags in marks.items() if any(flag in words for flag in flags)]
    return f"its build variables have {' and '.join(found) or 'neither PGO nor LTO'}"


def _write(results: Results, scenarios: Sequence[Scenario], notes: dict[str, str], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    raw = json.dumps(asdict(results), indent=1, ensure_ascii=False) + "\n"
    (out / "results.json").write_text(raw, encoding="utf-8")
    plot_name = "results.svg" if results.measurements else ""
    try:
        if plot_name:
            report.plot(results, scenarios, out / plot_name)
    except ImportError as error:
        _print_progress(f"without the plot: {error}; it is in the extra bench (pip install 'asgid[bench]')")
        plot_name = ""
    text = report.markdown(results, scenarios, notes, plot_name)
    (out / "RESULTS.md").write_text(text, encoding="utf-8")
    _print_progress(f"written: {out / 'RESULTS.md'}")


def _print_progress(line: str) -> None:
    """Print to stderr, because stdout is for a report that is not written to a file."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
