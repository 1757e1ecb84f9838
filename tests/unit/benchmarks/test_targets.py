"""The targets of the benchmarks: the compared figures, and the verdict on each."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import pytest

from benchmarks import check
from benchmarks.figures import Measurement, Results
from benchmarks.report import targets_table
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import SERVERS
from benchmarks.targets import BEST, FAILURES, PEERS, TARGETS, Figure, Judgement, Target, Verdict, judge

COST = Target("hello", Figure.CPU, "uvicorn", 0.50, aim=0.40)
RATE = Target("hello", Figure.RATE, "uvicorn", 2.0)
BEST_COST = Target("hello", Figure.CPU, BEST, 0.50)
BEST_RATE = Target("hello", Figure.RATE, BEST, 0.50)
SAME_SIZE = Target("hello", Figure.CPU, "floor", 2.0, is_same_size=True)
BY_PATH = Target("file", Figure.CPU, "granian", 1.0, way="pathsend")


def ran(
    server: str,
    cpu_us: float,
    requests: int = 1000,
    scenario: str = "hello",
    answer_bytes: float = 129.0,
    way: str = "",
    round_: int = 1,
) -> Measurement:
    """Return the measurement of one round, which takes one second."""
    cpu_s = cpu_us * requests / 1e6
    return Measurement(server, scenario, round_, requests, 1.0, cpu_s, 1.0, 2.0, 0, answer_bytes, way)


def judged(target: Target, *measurements: Measurement) -> Judgement:
    (judgement,) = judge(measurements, [target])
    return judgement


class TestVerdict:
    @pytest.mark.parametrize(
        ("cpu_us", "verdict"),
        [
            (40.0, Verdict.AIM),
            (40.1, Verdict.MET),
            (50.0, Verdict.MET),
            (50.1, Verdict.CLOSE),
            (54.9, Verdict.CLOSE),
            (55.1, Verdict.MISSED),
        ],
    )
    def test_a_lower_cost_is_better(self, cpu_us, verdict):
        """A cost that exceeds its bound by more than a tenth is a failure."""
        judgement = judged(COST, ran("asgid", cpu_us), ran("uvicorn", 100.0))

        assert verdict is judgement.verdict
        assert judgement.ratio == pytest.approx(cpu_us / 100)

    @pytest.mark.parametrize(
        ("requests", "verdict"),
        [(2000, Verdict.MET), (1999, Verdict.CLOSE), (1801, Verdict.CLOSE), (1799, Verdict.MISSED)],
    )
    def test_more_requests_a_second_are_better(self, requests, verdict):
        assert verdict is judged(RATE, ran("asgid", 1.0, requests), ran("uvicorn", 1.0, 1000)).verdict

    def test_the_ratio_is_the_median_of_the_ratios_of_the_rounds(self):
        """A machine that is slow for a round is slow for both. The ratio of the medians would be 0.46."""
        ours = [ran("asgid", cost, round_=number) for number, cost in enumerate((40.0, 46.0, 900.0), 1)]
        theirs = [ran("uvicorn", cost, round_=number) for number, cost in enumerate((80.0, 100.0, 1800.0), 1)]

        assert judged(COST, *ours, *theirs).ratio == pytest.approx(0.50)

    def test_a_round_without_both_measurements_is_not_used(self):
        ours = [ran("asgid", 10.0, round_=1), ran("asgid", 45.0, round_=2)]

        assert judged(COST, *ours, ran("uvicorn", 100.0, round_=2)).ratio == pytest.approx(0.45)
        assert "no round has both" == judged(COST, *ours, ran("uvicorn", 100.0, round_=3)).reason


class TestPeer:
    def test_the_best_peer_is_the_best_in_the_figure_of_the_target(self):
        """The peer with the lowest cost may differ from the peer with the highest rate."""
        field = [ran("asgid", 10.0, 100), ran("granian", 40.0, 50), ran("uvicorn", 20.0, 40)]

        assert ("the best peer, uvicorn", 0.5) == (judged(BEST_COST, *field).peer, judged(BEST_COST, *field).ratio)
        assert ("the best peer, granian", 2.0) == (judged(BEST_RATE, *field).peer, judged(BEST_RATE, *field).ratio)

    @pytest.mark.parametrize("server", ["floor", "node", "go"])
    def test_a_server_without_the_application_is_not_a_peer(self, server):
        judgement = judged(BEST_COST, ran("asgid", 10.0), ran(server, 1.0), ran("hypercorn", 100.0))

        assert "the best peer, hypercorn" == judgement.peer

    @pytest.mark.parametrize("target", [COST, BEST_COST])
    def test_an_absent_peer_is_not_a_failure(self, target):
        judgement = judged(target, ran("asgid", 10.0), ran("floor", 1.0))

        assert (Verdict.ABSENT, None) == (judgement.verdict, judgement.ratio)
        assert f"{target.peer} was not measured" == judgement.reason
        assert judgement.verdict not in FAILURES


class TestRefusal:
    @pytest.mark.parametrize(
        ("target", "measurements", "reason"),
        [
            (COST, [ran("uvicorn", 100.0)], "asgid was not measured"),
            (COST, [ran("asgid", 1.0, scenario="echo"), ran("uvicorn", 100.0)], "asgid was not measured"),
            (
                SAME_SIZE,
                [ran("asgid", 10.0, answer_bytes=129.2), ran("floor", 9.0, answer_bytes=118.9)],
                "answers of 129 and of 119 bytes",
            ),
            (
                SAME_SIZE,
                [ran("asgid", 10.0, answer_bytes=0.0), ran("floor", 9.0, answer_bytes=0.0)],
                "answers of 0 and of 0 bytes",
            ),
            (
                BY_PATH,
                [ran("asgid", 1.0, scenario="file", way="read"), ran("granian", 9.0, scenario="file", way="pathsend")],
                "asgid did not send by pathsend, but by read",
            ),
            (
                BY_PATH,
                [ran("asgid", 1.0, scenario="file", way="pathsend"), ran("granian", 9.0, scenario="file")],
                "granian did not send by pathsend, but by an unknown way",
            ),
        ],
    )
    def test_measurements_that_do_not_fit_the_target_are_refused(self, target, measurements, reason):
        """The ratio does not matter. The verdict is a failure, because the target is not shown to be met."""
        judgement = judged(target, *measurements)

        assert (Verdict.REFUSED, None, reason) == (judgement.verdict, judgement.ratio, judgement.reason)
        assert judgement.verdict in FAILURES

    def test_answers_of_the_same_size_and_way_are_compared(self):
        """The size may differ by less than one byte, for an unfinished answer at the end."""
        sizes = [ran("asgid", 10.0, answer_bytes=129.4), ran("floor", 5.0, answer_bytes=129.0)]
        paths = [ran(server, 5.0, scenario="file", way="pathsend") for server in ("asgid", "granian")]

        assert [2.0, 1.0] == [judged(SAME_SIZE, *sizes).ratio, judged(BY_PATH, *paths).ratio]


class TestTable:
    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.scenario}-{target.peer}")
    def test_the_servers_of_a_target_play_its_scenario(self, target):
        names = PEERS if target.peer == BEST else (target.peer,)
        scenario = SCENARIOS[target.scenario]

        assert SERVERS["asgid"].can_play(scenario)
        assert any(SERVERS[name].can_play(scenario) for name in names)

    @pytest.mark.parametrize("target", [target for target in TARGETS if target.aim], ids=lambda target: target.scenario)
    def test_an_aim_lies_beyond_its_bound(self, target):
        assert target.figure.reaches(target.aim, target.bound)

    def test_each_scenario_has_a_target(self):
        assert set(SCENARIOS) == {target.scenario for target in TARGETS}

    def test_a_line_has_the_target_the_aim_the_figure_and_the_verdict(self):
        found = judge([ran("asgid", 38.0), ran("uvicorn", 100.0)], [COST, SAME_SIZE])

        assert [
            "| hello | CPU vs uvicorn | at most 0.50 | 0.40 | 0.38 | met, and the aim |",
            "| hello | CPU vs floor | at most 2.00 | - | - | no peer: floor was not measured |",
        ] == targets_table(found)[2:]


class TestCheck:
    def write(self, path, measurements: Sequence[Measurement]) -> str:
        """Write the results as `make bench` does, and return their path."""
        results = Results({"when": "today", "cores": "2"}, {"asgid": "1.2.3"}, {}, [], measurements)
        (path / "results.json").write_text(json.dumps(asdict(results)))
        return str(path / "results.json")

    def all_met(self) -> list[Measurement]:
        """Return a run in which asgid has 0.3 of the cost of each peer, and three times the requests."""
        peers = ("uvicorn", "granian", "h2corn", "gunicorn", "floor", "node")
        return [
            ran(server, 10.0 * share, 1000 if share == 1 else 3000, name, way="pathsend")
            for name in SCENARIOS
            for server, share in (("asgid", 0.3), *((peer, 1) for peer in peers))
        ]

    def test_check_returns_0_if_all_targets_are_met(self, tmp_path, capsys):
        assert 0 == check.main([self.write(tmp_path, self.all_met())])

        output = capsys.readouterr().out
        assert output.startswith("Measured: when today, cores 2.\n")
        assert output.endswith("no target failed\n")
        assert len(TARGETS) == output.count("| met")

    def test_check_returns_1_if_one_target_is_missed(self, tmp_path, capsys):
        worse = [
            ran("asgid", 9.0, 3000, "connect") if (each.server, each.scenario) == ("asgid", "connect") else each
            for each in self.all_met()
        ]

        assert 1 == check.main([self.write(tmp_path, worse)])
        output = capsys.readouterr().out
        assert "| connect | CPU vs uvicorn | at most 0.65 | - | 0.90 | missed |" in output
        assert output.endswith(f"1 of {len(TARGETS)} targets failed\n")

    def test_check_without_results_names_the_command_that_writes_them(self, tmp_path, capsys):
        assert 2 == check.main([str(tmp_path / "results.json")])
        assert "results.json does not exist: run `make bench`, which writes it\n" in capsys.readouterr().err
