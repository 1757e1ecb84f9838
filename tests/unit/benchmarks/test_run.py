"""The benchmarks' own promises: what counts as a result, and that the report says what was measured."""

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


def printed(**changed: int) -> str:
    """What wrk prints: its own summary, and the line our script adds."""
    figures = json.dumps({**FIGURES, **NO_ERRORS, **changed})
    return f"Running 2s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n\nfigures {figures}\n"


def measured(server: str, round_: int = 1, cpu_s: float = 0.02, scenario: str = "hello") -> figures.Measurement:
    return figures.Measurement(server, scenario, round_, 1000, 2.0, cpu_s, 1.23, 4.56, 30 * 2**20)


def results(*measurements: figures.Measurement, **changed) -> figures.Results:
    facts = {"machine": {"cores": "2"}, "versions": {"asgid": "1.2.3"}, "skipped": {}, "refused": []}
    return figures.Results(**{**facts, **changed}, measurements=measurements)


class TestLoad:
    def test_the_figures_come_from_the_line_our_script_prints(self):
        """Microseconds become milliseconds and seconds; every kind of error is there."""
        expected = load.Load(1000, 2.0, 140_000, 1.23, 4.56, NO_ERRORS)

        assert expected == load.parse(printed())

    def test_the_script_prints_what_the_parser_reads(self):
        """The Lua text and the parser name the same figures, in a format that is JSON once filled in."""
        formats = re.findall(r"'([^']*)'", load.script(HELLO).partition("string.format(")[2])
        line = "".join(formats).replace("\\n", "").replace("%d", "7")

        assert load.Load(7, 7e-6, 7, 0.007, 0.007, dict.fromkeys(NO_ERRORS, 7)) == load.parse(line)

    @pytest.mark.parametrize("output", ["", "Requests/sec: 500.00\n", printed() + printed()])
    def test_without_exactly_one_line_of_figures_there_is_no_result(self, output):
        with pytest.raises(load.LoadError, match="lines of figures, not one"):
            load.parse(output)

    @pytest.mark.parametrize("kind", NO_ERRORS)
    def test_one_error_of_any_kind_refuses_the_whole_run(self, kind):
        with pytest.raises(load.LoadError, match=f"errors beside 1000 requests: 1 {kind}"):
            load.check(load.parse(printed(**{kind: 1})), HELLO)

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
            load.check(load.parse(printed(**changed)), HELLO)

    def test_answers_that_were_not_counted_are_refused(self):
        """Who counts 16 pipelined answers as one receives more than one head and what was under way can be."""
        scenario = SCENARIOS["pipeline"]
        most = (1000 + 64 * 16) * (len(scenario.answer) + load.HEAD_BYTES)
        load.check(load.parse(printed(bytes=most)), scenario)

        with pytest.raises(load.LoadError, match="are more than 1000 answers"):
            load.check(load.parse(printed(bytes=most + 1)), scenario)

    def test_full_answers_without_errors_are_a_result(self):
        """The bound itself is enough: every body in full and not one byte of a head."""
        load.check(load.parse(printed(bytes=1000 * len(HELLO.answer))), HELLO)

    def test_the_script_sends_the_scenario(self):
        """Method, body and every header stand in it; quotes in a header do not end the Lua string."""
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
    def test_wrk_loads_with_requests_and_our_own_client_with_messages(self, name, monkeypatch, tmp_path):
        """Either way a run is given one function of seconds."""

        @contextlib.contextmanager
        def fake(port, scenario):
            yield lambda seconds: ("messages", port, scenario, seconds)

        monkeypatch.setattr(load, "drive", lambda port, scenario, seconds, _: ("requests", port, scenario, seconds))
        monkeypatch.setattr(websocket_load, "client", fake)
        scenario = SCENARIOS[name]
        with clients.client(80, scenario, tmp_path) as drive:
            loaded: object = drive(2)

        assert (f"{scenario.unit}s", 80, scenario, 2) == loaded


class TestScenarios:
    @pytest.mark.parametrize("scenario", OVER_HTTP, ids=lambda scenario: scenario.name)
    def test_the_application_answers_each_as_the_scenario_wants(self, scenario, tmp_path, monkeypatch):
        """A body that comes in two parts is read whole; where a length is announced, it is that of the answer."""
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
    def test_the_application_says_a_message_back(self, scenario):
        """It accepts, and then says each that comes, once to who is alone."""
        said = {"type": "websocket.receive", "text": scenario.body.decode()}
        incoming = [{"type": "websocket.connect"}, said, said, {"type": "websocket.disconnect", "code": 1000}]
        sent = asyncio.run(play(application(scenario), scope_of(scenario) | {"type": "websocket"}, incoming))

        heard = {"type": "websocket.send", "text": scenario.answer.decode()}
        assert [{"type": "websocket.accept"}, heard, heard] == sent

    def test_a_broadcast_goes_to_all_that_are_open_and_to_nobody_else(self, monkeypatch):
        """Who is gone says so by an OSError, and hears no more; who spoke and left is forgotten."""
        heard: list[str] = []

        async def listening(message):
            heard.append(message["text"])

        async def gone(_message):
            heard.append("gone")
            raise OSError("closed")

        audience = {listening, gone}
        monkeypatch.setattr(apps, "_AUDIENCE", audience)
        scenario = SCENARIOS["broadcast"]
        said = [{"type": "websocket.receive", "text": text} for text in "ab"]
        incoming = [{"type": "websocket.connect"}, *said, {"type": "websocket.disconnect"}]
        asyncio.run(play(application(scenario), scope_of(scenario) | {"type": "websocket"}, incoming))

        assert ["a", "b", "gone"] == sorted(heard)
        assert {listening} == audience

    @pytest.mark.parametrize("scenario", OVER_WEBSOCKETS, ids=lambda scenario: scenario.name)
    def test_every_websocket_is_one_of_an_audience(self, scenario):
        assert scenario.connections % scenario.audience == 0

    def test_a_large_answer_is_one_part_and_a_streamed_one_is_many(self):
        """The download is 64 parts of 16 KiB, and an end that tells nothing of the length before."""
        large = asyncio.run(play(application(SCENARIOS["large"]), scope_of(SCENARIOS["large"]), []))
        start, *parts = asyncio.run(play(application(SCENARIOS["download"]), scope_of(SCENARIOS["download"]), []))

        assert 2 == len(large)
        assert [b"content-type"] == [name for name, _ in start["headers"]]
        assert [16 * 1024] * 64 + [0] == [len(part["body"]) for part in parts]

    @pytest.mark.parametrize(("extensions", "way"), [({"http.response.pathsend": {}}, b"pathsend"), (None, b"read")])
    def test_a_file_is_sent_by_its_path_where_the_server_takes_one(self, extensions, way, tmp_path, monkeypatch):
        """The answer says which way it was, so that nobody takes one for the other."""
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
        """The load script writes it as such."""
        assert scenario.body[:1] * len(scenario.body) == scenario.body

    def test_the_floor_plays_only_where_one_read_is_one_request(self):
        names = ("hello", "echo", "pipeline", "two")

        assert [True, False, False, False] == [servers.SERVERS["floor"].can_play(SCENARIOS[name]) for name in names]

    @pytest.mark.parametrize("name", [name for name in SCENARIOS if servers.SERVERS["floor"].can_play(SCENARIOS[name])])
    def test_the_floor_sends_as_many_bytes_as_asgid(self, name):
        """Else it would be the floor of another answer. asgid's comes from the very object that writes it."""
        scenario = SCENARIOS[name]
        start, body = asyncio.run(play(application(scenario), scope_of(scenario), []))
        response = make_responder(keep_alive=scenario.keep_alive)
        response.start(start)
        common = b"date: Fri, 02 Jan 2026 03:04:05 GMT\r\nserver: asgid\r\n"

        assert len(b"".join(response.body(body, common, must_close=False))) == len(floor.answer_to(scenario))

    def test_everyone_who_is_named_as_a_player_is_a_server(self):
        for scenario in SCENARIOS.values():
            assert set(scenario.players) <= set(servers.SERVERS)


def application(scenario: Scenario) -> Any:
    module, _, attribute = scenario.app.partition(":")
    return getattr(importlib.import_module(module), attribute)


def scope_of(scenario: Scenario) -> dict[str, Any]:
    """A scope that frameworks too are content with."""
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
    """Call the application once and return what it sent; a client that has said all it has to say stays silent."""
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
    def test_a_peer_that_is_not_installed_is_missing_by_name(self):
        with pytest.raises(servers.MissingError, match="pip install no-such-server"):
            servers._distribution("no-such-server")()

    def test_a_program_that_is_not_on_the_path_names_its_package(self):
        with pytest.raises(servers.MissingError, match="apt-get install golang-go"):
            servers._program("golang-go", "no-such-program", "version")()

    def test_no_variable_of_the_caller_tunes_a_server(self, monkeypatch):
        monkeypatch.setenv("WEB_CONCURRENCY", "8")
        monkeypatch.setenv("PATH", "/somewhere")
        environment = servers._environment({"GOMAXPROCS": "1"})

        assert "WEB_CONCURRENCY" not in environment
        assert ["1", "/somewhere"] == [environment["GOMAXPROCS"], environment["PATH"]]

    def test_an_access_log_holds_a_line_for_each_request(self, tmp_path, monkeypatch):
        """A server that skips lines is not compared with those that write them."""
        monkeypatch.setattr(servers, "LOG_S", 0.0)
        instance = servers.Running(pid=0, port=0, access_file=tmp_path / "access")
        instance.access_file.write_bytes(b"GET / 200\n" * 3)
        instance.check_access_log(3)

        with pytest.raises(servers.ServerError, match="its access log has 3 lines after 4 requests"):
            instance.check_access_log(4)

    def test_the_time_of_a_process_is_counted_finer_than_in_ticks(self):
        """Ticks of 10 ms would be seen as multiples of it; and work that was done is there."""
        process = psutil.Process()
        before = servers._cpu_s(process)
        sum(range(10_000))
        spent = servers._cpu_s(process) - before

        assert 0 < spent < 0.01


class TestReport:
    def test_rows_hold_medians_and_the_least_cost_comes_first(self):
        """Three rounds of 10, 30 and 20 µs: the median is 20 and they lie a whole median apart."""
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

    def test_over_websockets_it_is_messages_that_count(self):
        """A table never says request where none was made."""
        text = report.markdown(results(measured("asgid", scenario="websocket")), [SCENARIOS["websocket"]], {})

        assert "| server | vs uvicorn | CPU µs/message | spread | messages/s | busy |" in text
        assert "| server | vs uvicorn | CPU µs/request | spread | requests/s | busy |" not in text

    def test_without_the_baseline_nothing_is_compared(self):
        assert "| **asgid** | - | 20.0 |" in report.markdown(results(measured("asgid")), [HELLO], {})

    def test_it_begins_with_what_it_does_not_show(self):
        """Nobody reads a figure before its limits."""
        text = report.markdown(results(measured("asgid")), [HELLO], {})
        headings = [line for line in text.splitlines() if line.startswith("#")]

        assert ["# Benchmarks", "## Limits of these figures", "## Targets"] == headings[:3]
        assert "### hello: A small answer, keep-alive" == headings[-1]

    def test_it_says_who_was_absent_who_was_refused_and_how_each_ran(self):
        """A log of several lines stays one item of the list."""
        text = report.markdown(
            results(skipped={"go": "go is not on PATH"}, refused=["round 1, hello, node: errors\nits log"]),
            [HELLO],
            {"asgid": "metrics on"},
        )

        assert "| asgid | 1.2.3 | metrics on |" in text
        assert "- go was left out: go is not on PATH" in text
        assert "- round 1, hello, node: errors / its log" in text

    def test_where_there_is_more_than_one_way_it_says_which_was_taken(self):
        sent = dataclasses.replace(measured("asgid", scenario="file"), way="pathsend")
        text = report.markdown(results(sent, measured("uvicorn", scenario="file")), [SCENARIOS["file"]], {})

        assert "How it was sent: asgid pathsend.\n" in text

    def test_latencies_that_are_not_known_are_not_told(self):
        batches = dataclasses.replace(measured("asgid"), p50_ms=0.0, p99_ms=0.0)

        assert "| 500 | 0.01 | - | - | 30 | 1 |" in report.markdown(results(batches), [HELLO], {})

    def test_a_scenario_that_nobody_played_has_no_table(self):
        assert "###" not in report.markdown(results(measured("asgid")), [SCENARIOS["echo"]], {})

    def test_the_plot_is_shown_where_there_is_one(self):
        assert "(results.svg)" in report.markdown(results(), [HELLO], {}, "results.svg")
        assert "![" not in report.markdown(results(), [HELLO], {})


class TestRun:
    @pytest.mark.parametrize(
        ("wanted", "connections_per_s", "expected"),
        [
            (4, 1_000.0, 4),  # the ports last longer than is asked for
            (4, 10_000.0, 2),
            (4, 14_000.0, 2),
            (4, 14_001.0, 1),
            (4, 90_000.0, 1),  # never less than wrk can
        ],
    )
    def test_a_load_of_new_connections_ends_before_its_ports_do(self, wanted, connections_per_s, expected):
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
    def test_a_part_of_a_run_never_replaces_the_report(self, words, rounds, expected):
        options = run._options(words)

        assert (rounds, expected) == (options.rounds, run.destination(options))

    @pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "1.5"], ["--server", "iis"]])
    def test_a_wrong_option_is_a_usage_error(self, words, capsys):
        with pytest.raises(SystemExit):
            run._options(words)

        assert words[0] in capsys.readouterr().err

    def test_without_the_load_tool_one_message_names_its_package(self, monkeypatch, capsys):
        monkeypatch.setattr("shutil.which", lambda _: None)

        assert run.main(["--quick"]) == 1
        assert "wrk, the load generator, is not on PATH (Debian: apt-get install wrk)\n" == capsys.readouterr().err

    def test_what_is_written_can_be_read_back(self, tmp_path, monkeypatch):
        """Without matplotlib the report has no plot and is otherwise whole; the raw figures are all there."""
        monkeypatch.setattr(
            report, "plot", lambda *_: (_ for _ in ()).throw(ImportError("No module named 'matplotlib'"))
        )
        run._write(results(measured("asgid")), [HELLO], {}, tmp_path / "new")

        assert "![" not in (tmp_path / "new" / "RESULTS.md").read_text()
        raw = json.loads((tmp_path / "new" / "results.json").read_text())
        assert measured("asgid") == figures.Measurement(**raw["measurements"][0])


def test_the_facts_of_the_machine_are_told():
    """A figure without its machine is not a figure."""
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
