"""The benchmarks: the output of wrk, the scenarios, the measured servers, the report, and the options of a run."""

import argparse
import asyncio
import contextlib
import dataclasses
import importlib
import json
import re
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import apps, clients, figures, load, report, run, servers, websocket_load
from benchmarks.peers import floor
from benchmarks.scenarios import BROWSER_HEADERS, FILE, FILE_VARIABLE, SCENARIOS, Scenario
from tests.responders import make_responder

HELLO = SCENARIOS["hello"]
OVER_HTTP = [scenario for scenario in SCENARIOS.values() if not scenario.is_websocket]
OVER_WEBSOCKETS = [scenario for scenario in SCENARIOS.values() if scenario.is_websocket]
FIGURES = {"requests": 1000, "elapsed_us": 2_000_000, "bytes": 140_000, "p50_us": 1230, "p99_us": 4560}
NO_ERRORS = {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}


def wrk_output(**changed: int) -> str:
    """Return an output of wrk: its summary, and the line of the script."""
    figures = json.dumps({**FIGURES, **NO_ERRORS, **changed})
    return f"Running 2s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n\nfigures {figures}\n"


def measured(server: str, round_: int = 1, cpu_s: float = 0.02, scenario: str = "hello") -> figures.Measurement:
    return figures.Measurement(server, scenario, round_, 1000, 2.0, cpu_s, 1.23, 4.56, 30 * 2**20)


def results(*measurements: figures.Measurement, **changed) -> figures.Results:
    facts = {"machine": {"cores": "2"}, "versions": {"asgid": "1.2.3"}, "skipped": {}, "refused": []}
    return figures.Results(**{**facts, **changed}, measurements=measurements)


class TestLoad:
    def test_the_figures_come_from_the_line_of_the_script(self):
        expected = load.Load(1000, 2.0, 140_000, 1.23, 4.56, NO_ERRORS)

        assert expected == load.parse(wrk_output())

    def test_the_script_prints_the_figures_that_the_parser_reads(self):
        """The format string of the script is JSON with the figures that the parser needs."""
        formats = re.findall(r"'([^']*)'", load.script(HELLO).partition("string.format(")[2])
        line = "".join(formats).replace("\\n", "").replace("%d", "7")

        assert load.Load(7, 7e-6, 7, 0.007, 0.007, dict.fromkeys(NO_ERRORS, 7)) == load.parse(line)

    @pytest.mark.parametrize("output", ["", "Requests/sec: 500.00\n", wrk_output() + wrk_output()])
    def test_an_output_without_exactly_one_line_of_figures_is_refused(self, output):
        with pytest.raises(load.LoadError, match="lines of figures, not one"):
            load.parse(output)

    @pytest.mark.parametrize("kind", NO_ERRORS)
    def test_a_load_with_one_error_of_any_kind_is_refused(self, kind):
        with pytest.raises(load.LoadError, match=f"errors beside 1000 requests: 1 {kind}"):
            load.check(load.parse(wrk_output(**{kind: 1})), HELLO)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"requests": 0}, "no request was answered"),
            ({"bytes": 1000 * len(HELLO.answer) - 1}, "12 bytes an answer, but each body has 12"),
            ({"bytes": 5000}, "5 bytes an answer"),
        ],
    )
    def test_missing_or_short_answers_are_refused(self, changed, message):
        with pytest.raises(load.LoadError, match=message):
            load.check(load.parse(wrk_output(**changed)), HELLO)

    def test_answers_that_were_not_counted_are_refused(self):
        """A tool that counts 16 pipelined answers as one receives more bytes than answers and heads can have."""
        scenario = SCENARIOS["pipeline"]
        max_bytes = (1000 + 64 * 16) * (len(scenario.answer) + load.HEAD_BYTES)
        load.check(load.parse(wrk_output(bytes=max_bytes)), scenario)

        with pytest.raises(load.LoadError, match="are more than 1000 answers"):
            load.check(load.parse(wrk_output(bytes=max_bytes + 1)), scenario)

    def test_full_answers_without_errors_are_a_result(self):
        load.check(load.parse(wrk_output(bytes=1000 * len(HELLO.answer))), HELLO)

    def test_the_script_sends_the_scenario(self):
        scenario = Scenario("x", "x", headers=(("Sec-Ch-Ua", '"Chromium";v="140"'),), body=b"x" * 77)
        script = load.script(scenario)

        assert 'wrk.method = "POST"' in script
        assert 'wrk.headers["Sec-Ch-Ua"] = "\\"Chromium\\";v=\\"140\\""' in script
        assert 'wrk.body = string.rep("x", 77)' in script

    def test_pipelined_requests_are_one_batch(self):
        script = load.script(SCENARIOS["pipeline"])

        assert "init = function() batch = string.rep(wrk.format(), 16) end" in script
        assert "request = function() return batch end" in script
        assert "string.rep(wrk.format()" not in load.script(HELLO)

    def test_a_request_without_a_body_is_a_get(self):
        script = load.script(SCENARIOS["browser"])

        assert 'wrk.method = "GET"' in script
        assert "wrk.body" not in script
        assert len(BROWSER_HEADERS) == script.count("wrk.headers[")


class TestClients:
    @pytest.mark.parametrize("name", ["hello", "websocket"])
    def test_wrk_sends_requests_and_the_websocket_client_sends_messages(self, name, monkeypatch, tmp_path):
        """`client` yields a function of seconds for both."""

        @contextlib.contextmanager
        def fake(port, scenario):
            yield lambda seconds: ("messages", port, scenario, seconds)

        monkeypatch.setattr(load, "drive", lambda port, scenario, seconds, _: ("requests", port, scenario, seconds))
        monkeypatch.setattr(websocket_load, "client", fake)
        scenario = SCENARIOS[name]
        with clients.client(80, scenario, tmp_path) as drive:
            load_arguments: object = drive(2)

        assert (f"{scenario.unit}s", 80, scenario, 2) == load_arguments


class TestScenarios:
    @pytest.mark.parametrize("scenario", OVER_HTTP, ids=lambda scenario: scenario.name)
    def test_the_application_sends_the_answer_of_the_scenario(self, scenario, tmp_path, monkeypatch):
        monkeypatch.setenv(FILE_VARIABLE, str(servers._file(tmp_path)))
        half = len(scenario.body) // 2
        incoming = [
            {"type": "http.request", "body": scenario.body[:half], "more_body": True},
            {"type": "http.request", "body": scenario.body[half:], "more_body": False},
        ]
        start, *parts = asyncio.run(play(application(scenario), scope_of(scenario), incoming))

        assert ["http.response.start", 200] == [start["type"], start["status"]]
        assert {str(len(scenario.answer)).encode()} >= {v for k, v in start["headers"] if k == b"content-length"}
        assert scenario.answer == b"".join(part["body"] for part in parts)
        assert [True] * (len(parts) - 1) + [False] == [part.get("more_body", False) for part in parts]

    @pytest.mark.parametrize("scenario", OVER_WEBSOCKETS, ids=lambda scenario: scenario.name)
    def test_the_application_sends_each_message_back(self, scenario):
        received = {"type": "websocket.receive", "text": scenario.body.decode()}
        incoming = [{"type": "websocket.connect"}, received, received, {"type": "websocket.disconnect", "code": 1000}]
        sent = asyncio.run(play(application(scenario), scope_of(scenario) | {"type": "websocket"}, incoming))

        answer = {"type": "websocket.send", "text": scenario.answer.decode()}
        assert [{"type": "websocket.accept"}, answer, answer] == sent

    def test_a_broadcast_goes_to_the_open_websockets_only(self, monkeypatch):
        """A WebSocket leaves the audience if its `send` raises OSError; so does a sender that disconnects."""
        sent: list[str] = []

        async def send_to_open(message):
            sent.append(message["text"])

        async def send_to_closed(_message):
            sent.append("closed")
            raise OSError("closed")

        audience = {send_to_open, send_to_closed}
        monkeypatch.setattr(apps, "_AUDIENCE", audience)
        scenario = SCENARIOS["broadcast"]
        messages = [{"type": "websocket.receive", "text": text} for text in "ab"]
        incoming = [{"type": "websocket.connect"}, *messages, {"type": "websocket.disconnect"}]
        asyncio.run(play(application(scenario), scope_of(scenario) | {"type": "websocket"}, incoming))

        assert ["a", "b", "closed"] == sorted(sent)
        assert {send_to_open} == audience

    @pytest.mark.parametrize("scenario", OVER_WEBSOCKETS, ids=lambda scenario: scenario.name)
    def test_the_connections_are_a_multiple_of_the_audience(self, scenario):
        assert scenario.connections % scenario.audience == 0

    def test_a_large_answer_is_one_part_and_a_streamed_answer_is_many(self):
        """The download has 64 parts of 16 KiB, an empty part at its end, and no content-length."""
        large = asyncio.run(play(application(SCENARIOS["large"]), scope_of(SCENARIOS["large"]), []))
        start, *parts = asyncio.run(play(application(SCENARIOS["download"]), scope_of(SCENARIOS["download"]), []))

        assert 2 == len(large)
        assert [b"content-type"] == [name for name, _ in start["headers"]]
        assert [16 * 1024] * 64 + [0] == [len(part["body"]) for part in parts]

    @pytest.mark.parametrize(("extensions", "way"), [({"http.response.pathsend": {}}, b"pathsend"), (None, b"read")])
    def test_a_file_is_sent_by_its_path_if_the_server_supports_it(self, extensions, way, tmp_path, monkeypatch):
        """The answer names the way in a header, because the costs of the two ways are not compared."""
        path = servers._file(tmp_path)
        monkeypatch.setenv(FILE_VARIABLE, str(path))
        scenario = SCENARIOS["file"]
        scope = scope_of(scenario) | {"extensions": extensions}
        start, *parts = asyncio.run(play(application(scenario), scope, []))
        length = str(len(FILE)).encode()

        assert [(b"content-length", length), (b"x-way", way)] == start["headers"]
        if extensions:
            assert [{"type": "http.response.pathsend", "path": str(path)}] == parts
        else:
            assert {"http.response.body"} == {part["type"] for part in parts}

    def test_the_application_takes_part_in_lifespan(self):
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent = asyncio.run(play(application(HELLO), {"type": "lifespan"}, incoming))

        assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [message["type"] for message in sent]

    @pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
    def test_a_body_is_one_letter_repeated(self, scenario):
        assert scenario.body[:1] * len(scenario.body) == scenario.body

    def test_the_floor_plays_only_if_one_read_is_one_request(self):
        names = ("hello", "echo", "pipeline", "two")

        assert [True, False, False, False] == [servers.SERVERS["floor"].can_play(SCENARIOS[name]) for name in names]

    @pytest.mark.parametrize("name", [name for name in SCENARIOS if servers.SERVERS["floor"].can_play(SCENARIOS[name])])
    def test_the_floor_sends_as_many_bytes_as_asgid(self, name):
        """Then the floor is that of the same answer. The bytes of asgid come from its responder."""
        scenario = SCENARIOS[name]
        start, body = asyncio.run(play(application(scenario), scope_of(scenario), []))
        response = make_responder(keep_alive=scenario.keep_alive)
        response.start(start)
        common = b"date: Fri, 02 Jan 2026 03:04:05 GMT\r\nserver: asgid\r\n"

        assert len(b"".join(response.body(body, common, must_close=False))) == len(floor.answer_to(scenario))

    def test_each_player_of_a_scenario_is_a_server(self):
        for scenario in SCENARIOS.values():
            assert set(scenario.players) <= set(servers.SERVERS)


def application(scenario: Scenario) -> Any:
    module, _, attribute = scenario.app.partition(":")
    return getattr(importlib.import_module(module), attribute)


def scope_of(scenario: Scenario) -> dict[str, Any]:
    """Return a scope with all keys that the frameworks need."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": scenario.method,
        "scheme": "http",
        "path": scenario.path,
        "raw_path": scenario.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


async def play(app, scope, incoming):
    """Call the application once and return its messages. After `incoming`, `receive` waits forever."""
    messages = iter(incoming)
    sent: list[dict[str, Any]] = []

    async def receive():
        for message in messages:
            return message
        return await asyncio.get_running_loop().create_future()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


class TestServers:
    def test_a_peer_that_is_not_installed_is_named_in_the_error(self):
        with pytest.raises(servers.MissingError, match="pip install no-such-server"):
            servers._distribution("no-such-server")()

    def test_the_error_for_a_missing_program_names_its_package(self):
        with pytest.raises(servers.MissingError, match="apt-get install golang-go"):
            servers._program("golang-go", "no-such-program", "version")()

    def test_the_environment_of_a_server_has_no_other_variables_of_the_caller(self, monkeypatch):
        monkeypatch.setenv("WEB_CONCURRENCY", "8")
        monkeypatch.setenv("PATH", "/somewhere")
        environment = servers._environment({"GOMAXPROCS": "1"})

        assert "WEB_CONCURRENCY" not in environment
        assert ["1", "/somewhere"] == [environment["GOMAXPROCS"], environment["PATH"]]

    def test_an_access_log_without_a_line_for_each_request_is_refused(self, tmp_path, monkeypatch):
        """A server that skips lines is not compared with servers that write them."""
        monkeypatch.setattr(servers, "LOG_S", 0.0)
        instance = servers.Running(pid=0, port=0, access_file=tmp_path / "access")
        instance.access_file.write_bytes(b"GET / 200\n" * 3)
        instance.check_access_log(3)

        with pytest.raises(servers.ServerError, match="its access log has 3 lines after 4 requests"):
            instance.check_access_log(4)

    def test_the_cpu_time_of_a_process_is_finer_than_a_tick(self):
        """A tick is 10 ms. A short computation takes less, but more than 0."""
        process = psutil.Process()
        before = servers._cpu_s(process)
        sum(range(10_000))
        spent = servers._cpu_s(process) - before

        assert 0 < spent < 0.01


class TestReport:
    def test_rows_have_medians_and_the_lowest_cost_is_first(self):
        slow = [measured("slow", number, cost) for number, cost in enumerate((0.010, 0.030, 0.020), 1)]
        quick, slower = figures.rows([*slow, measured("quick", 1, 0.005), measured("slow", 1, 9.0, "echo")], "hello")

        assert ["quick", "slow"] == [quick.server, slower.server]
        assert [5.0, 20.0] == pytest.approx([quick.cpu_us, slower.cpu_us])
        assert [0.0, 1.0] == pytest.approx([quick.cpu_spread, slower.cpu_spread])
        assert [1, 3] == [quick.rounds, slower.rounds]
        assert [500.0, 0.01] == pytest.approx([slower.requests_per_s, slower.busy])

    def test_a_table_compares_with_the_baseline(self):
        text = report.markdown(results(measured("asgid", cpu_s=0.015), measured("uvicorn", cpu_s=0.020)), [HELLO], {})

        assert "| **asgid** | 0.75 | 15.0 | 0% | 500 | 0.01 | 1.23 | 4.56 | 30 | 1 |" in text
        assert "| uvicorn | 1.00 | 20.0 |" in text

    def test_the_table_of_a_websocket_scenario_counts_messages(self):
        text = report.markdown(results(measured("asgid", scenario="websocket")), [SCENARIOS["websocket"]], {})

        assert "| server | vs uvicorn | CPU µs/message | spread | messages/s | busy |" in text
        assert "| server | vs uvicorn | CPU µs/request | spread | requests/s | busy |" not in text

    def test_a_table_without_the_baseline_has_no_ratio(self):
        assert "| **asgid** | - | 20.0 |" in report.markdown(results(measured("asgid")), [HELLO], {})

    def test_the_report_begins_with_the_limits_of_its_figures(self):
        """A reader finds them before the first figure."""
        text = report.markdown(results(measured("asgid")), [HELLO], {})
        headings = [line for line in text.splitlines() if line.startswith("#")]

        assert ["# Benchmarks", "## Limits of these figures", "## Targets"] == headings[:3]
        assert "### hello: A small answer, keep-alive" == headings[-1]

    def test_the_report_names_absent_servers_refused_rounds_and_settings(self):
        text = report.markdown(
            results(skipped={"go": "go is not on PATH"}, refused=["round 1, hello, node: errors\nits log"]),
            [HELLO],
            {"asgid": "metrics on"},
        )

        assert "| asgid | 1.2.3 | metrics on |" in text
        assert "- go was left out: go is not on PATH" in text
        assert "- round 1, hello, node: errors / its log" in text

    def test_the_report_names_the_way_in_which_a_file_was_sent(self):
        sent = dataclasses.replace(measured("asgid", scenario="file"), way="pathsend")
        text = report.markdown(results(sent, measured("uvicorn", scenario="file")), [SCENARIOS["file"]], {})

        assert "How it was sent: asgid pathsend.\n" in text

    def test_unknown_latencies_are_shown_as_a_dash(self):
        batches = dataclasses.replace(measured("asgid"), p50_ms=0.0, p99_ms=0.0)

        assert "| 500 | 0.01 | - | - | 30 | 1 |" in report.markdown(results(batches), [HELLO], {})

    def test_a_scenario_without_measurements_has_no_table(self):
        assert "###" not in report.markdown(results(measured("asgid")), [SCENARIOS["echo"]], {})

    def test_the_plot_is_shown_if_there_is_one(self):
        assert "(results.svg)" in report.markdown(results(), [HELLO], {}, "results.svg")
        assert "![" not in report.markdown(results(), [HELLO], {})


class TestRun:
    @pytest.mark.parametrize(
        ("wanted", "connections_per_s", "expected"),
        [
            (4, 1_000.0, 4),  # enough ports for the whole time
            (4, 10_000.0, 2),
            (4, 14_000.0, 2),
            (4, 14_001.0, 1),
            (4, 90_000.0, 1),  # the minimum of wrk
        ],
    )
    def test_a_load_of_new_connections_ends_before_its_ports_are_used_up(self, wanted, connections_per_s, expected):
        assert expected == run.affordable_seconds(wanted, connections_per_s, ports=28_000)

    @pytest.mark.parametrize(
        ("words", "rounds", "expected"),
        [
            ([], 5, run._HERE),
            (["--rounds", "3"], 3, run._HERE),
            (["--quick"], 1, None),
            (["--server", "asgid"], 5, None),
            (["--scenario", "hello"], 5, None),
            (["--quick", "--out", "somewhere"], 1, Path("somewhere")),
        ],
    )
    def test_a_partial_run_does_not_replace_the_report(self, words, rounds, expected):
        options = run._options(words)

        assert (rounds, expected) == (options.rounds, run.destination(options))

    @pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "1.5"], ["--server", "iis"]])
    def test_a_wrong_option_is_a_usage_error(self, words, capsys):
        with pytest.raises(SystemExit):
            run._options(words)

        assert words[0] in capsys.readouterr().err

    def test_a_run_without_wrk_fails_and_names_its_package(self, monkeypatch, capsys):
        monkeypatch.setattr("shutil.which", lambda _: None)

        assert run.main(["--quick"]) == 1
        assert "wrk, the load generator, is not on PATH (Debian: apt-get install wrk)\n" == capsys.readouterr().err

    def test_the_written_results_can_be_read_back(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            report, "plot", lambda *_: (_ for _ in ()).throw(ImportError("No module named 'matplotlib'"))
        )
        run._write(results(measured("asgid")), [HELLO], {}, tmp_path / "new")

        assert "![" not in (tmp_path / "new" / "RESULTS.md").read_text()
        raw = json.loads((tmp_path / "new" / "results.json").read_text())
        assert measured("asgid") == figures.Measurement(**raw["measurements"][0])


def test_the_results_describe_the_machine():
    facts = run._machine(argparse.Namespace(rounds=5, seconds=4, pin=False), "4.1.0")

    assert {
        "when",
        "commit",
        "processor",
        "cores",
        "load averages before",
        "kernel",
        "Python",
        "load generator",
        "rounds",
    } == set(facts)
    assert all(facts.values())
    assert facts["rounds"] == "5, each 1 s to warm up, then 4 s"


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, "neither PGO nor LTO"),
        ({"CONFIG_ARGS": "'--enable-shared'", "PY_CORE_CFLAGS": "-O3"}, "neither PGO nor LTO"),
        ({"CONFIG_ARGS": "'--enable-optimizations' '--with-lto'"}, "PGO and LTO"),
        ({"PY_CORE_CFLAGS": "-O3 -fprofile-use"}, "PGO"),
    ],
)
def test_the_report_names_the_optimisations_of_python(variables, found):
    assert f"its build variables have {found}" == run.optimisations(variables)
