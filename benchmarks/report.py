"""The report of a run, as Markdown and as a plot.

It has medians over the rounds and their spread. It begins with the limits of the figures, then lists the targets. This
file does not depend on how the figures are measured.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.figures import Results, Row, rows
from benchmarks.scenarios import Scenario
from benchmarks.targets import Judgement, judge

BASELINE = "uvicorn"  # most of our users come from it

_CAVEATS = """\
- One machine, the loopback interface, nothing between client and server: no network, no TLS, no proxy.
- The load generator shares the machine's cores with the server. So requests per second also depend on the generator,
  above all if a server used less than one core. Server CPU per request is stable on a noisy machine: read it first.
- On loopback the kernel delivers a packet in the sender's time, so a part of the client's work is in every figure.
- The load is closed: each connection sends its next request as soon as it has its answer. The latencies are those of a
  saturated server and follow from its throughput; at a moderate load a client waits less.
- The application does nothing. With one that takes a millisecond, most of these differences disappear.
- One worker each, except in *two*. There both workers and the load generator share the machine's cores: on two cores
  this does not show how a server scales. Slow clients, memory over days, and HTTP/2 are not measured.
- With 1 MiB and more in each direction most of the time is the kernel's copying, which is the same for all.
- Nothing is compressed, also not over WebSockets. The latency of a broadcast is that of its last receiver.
- wrk times pipelined requests in batches, so their latencies are missing here.
- The access logs are written to files in the page cache, and each server writes its own format.
- The servers have different features; the table of servers lists those that are on. The peers in Node and Go run no
  Python at all.
"""


def markdown(results: Results, scenarios: Sequence[Scenario], notes: Mapping[str, str], plot_name: str = "") -> str:
    """Return the whole report; `notes` describe how each server ran, `plot_name` is the file of the plot, if any."""
    parts = ["# Benchmarks", "", "Written by `make bench`; run it to replace this file.", ""]
    parts += ["## Limits of these figures", "", _CAVEATS]
    parts += ["## Targets", "", _TARGETS_LEGEND, "", *targets_table(judge(results.measurements)), ""]
    parts += ["## Machine and servers", "", *_table(("fact", "value"), list(results.machine.items())), ""]
    known = [(server, version, notes.get(server, "")) for server, version in results.versions.items()]
    parts += [*_table(("server", "version", "how it runs"), known), ""]
    parts += [f"- {server} was left out: {reason}" for server, reason in results.skipped.items()]
    parts += ["", "## Results", "", _LEGEND, ""]
    if plot_name:
        parts += [f"![Server CPU per request or message, by scenario and server]({plot_name})", ""]
    for scenario in scenarios:
        if found := rows(results.measurements, scenario.name):
            parts += [f"### {scenario.name}: {scenario.title}", "", *_scenario_table(found, scenario.unit), ""]
            if ways := [f"{row.server} {row.way}" for row in found if row.way]:
                parts += [f"How it was sent: {', '.join(ways)}.", ""]
    if results.refused:
        parts += ["## Refused", "", "These measurements do not count:", ""]
        parts += [f"- {' / '.join(reason.splitlines())}" for reason in results.refused] + [""]
    return "\n".join(parts)


_TARGETS_LEGEND = """\
asgid's targets: its figure divided by the peer's of the same round, median over the rounds. `make bench-check` prints
the same table, and fails if a target is missed by more than 10 %. *CPU* is server CPU per request or message, and less
is better; of requests/s more is better. The best peer is the best ASGI server in the run."""


def targets_table(found: Sequence[Judgement]) -> list[str]:
    """Return the targets with their results, as Markdown lines."""
    body = [
        (
            judgement.target.scenario,
            f"{judgement.target.figure.label} vs {judgement.peer}",
            f"{judgement.target.figure.bound} {judgement.target.bound:.2f}",
            "-" if judgement.target.aim is None else f"{judgement.target.aim:.2f}",
            "-" if judgement.ratio is None else f"{judgement.ratio:.2f}",
            f"{judgement.verdict.value}{judgement.reason and ': ' + judgement.reason}",
        )
        for judgement in found
    ]
    return _table(("scenario", "figure", "target", "aim", "measured", "verdict"), body)


_LEGEND = f"""\
Medians over the rounds. *CPU* is the user and system time of all processes of the server, divided by the requests
answered or, over WebSockets, the messages delivered; *spread* is the distance from its lowest round to its highest;
*vs {BASELINE}* divides it by {BASELINE}'s. *Busy* is the number of cores the server kept busy. *Memory* is the
proportional set size of all its processes after the load. The cheapest server is first."""


#: The columns of a scenario's table, with their units, and the values of their cells. The ratio to the baseline is a
#: column of its own.
_COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "CPU µs/{unit}": lambda row: f"{row.cpu_us:.1f}",
    "spread": lambda row: f"{row.cpu_spread:.0%}",
    "{unit}s/s": lambda row: f"{row.requests_per_s:,.0f}",
    "busy": lambda row: f"{row.busy:.2f}",
    "p50 ms": lambda row: f"{row.p50_ms:.2f}" if row.p50_ms else "-",
    "p99 ms": lambda row: f"{row.p99_ms:.2f}" if row.p99_ms else "-",
    "memory MiB": lambda row: f"{row.resident_bytes / 2**20:.0f}",
    "rounds": lambda row: str(row.rounds),
}


def _scenario_table(found: Sequence[Row], unit: str) -> list[str]:
    baseline = next((row.cpu_us for row in found if row.server == BASELINE), None)
    body = [
        (
            f"**{row.server}**" if row.server == "asgid" else row.server,
            f"{row.cpu_us / baseline:.2f}" if baseline else "-",
            *(cell(row) for cell in _COLUMNS.values()),
        )
        for row in found
    ]
    columns = [name.format(unit=unit) for name in _COLUMNS]
    return _table(("server", f"vs {BASELINE}", *columns), body, align="---:")


def _table(head: Sequence[str], body: Sequence[Sequence[str]], align: str = "---") -> list[str]:
    """Return Markdown lines; `align` is for every column but the first."""
    rule = ["---"] + [align] * (len(head) - 1)
    return [f"| {' | '.join(line)} |" for line in (head, rule, *body)]


def plot(results: Results, scenarios: Sequence[Scenario], path: Path) -> None:
    """Draw CPU per request or message, one panel per scenario, medians as bars and every round as a dot.

    `path` ends in .svg or .png. Raises ImportError without matplotlib, which is in the extra `bench`.
    """
    # By name, because this module must load, and pass mypy, without the extra.
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    played = [scenario for scenario in scenarios if rows(results.measurements, scenario.name)]
    matplotlib.rcParams["svg.hashsalt"] = "asgid"  # the same figures give the same file
    heights = [len(rows(results.measurements, scenario.name)) + 2 for scenario in played]  # bars, title, scale
    figure, axes = pyplot.subplots(
        len(played), 1, figsize=(8, 0.6 + 0.24 * sum(heights)), height_ratios=heights, squeeze=False
    )
    for axis, scenario in zip(axes[:, 0], played, strict=True):
        found = rows(results.measurements, scenario.name)[::-1]
        colours = ["#1f5fa8" if row.server == "asgid" else "#b9c0c8" for row in found]
        axis.barh([row.server for row in found], [row.cpu_us for row in found], color=colours)
        for row in found:
            costs = [
                each.cpu_us
                for each in results.measurements
                if (each.server, each.scenario) == (row.server, scenario.name)
            ]
            axis.plot(costs, [row.server] * len(costs), "o", color="#202830", markersize=2.5)
            axis.annotate(f" {row.cpu_us:.1f}", (max(costs), row.server), va="center", fontsize=8)
        axis.set_title(scenario.title, loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.margins(x=0.08)  # room for the figure beside the longest bar
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("server CPU per request or message, µs (less is better; dots are rounds)", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
