"""The comparison of two checkouts: the pairs of turns, the report, and the counter of instructions."""

import pytest

from benchmarks import compare, perf
from benchmarks.compare import Turn
from benchmarks.servers import ROOT

SOURCES = {"other": "/before", "here": "/after"}


def turns(*costs: tuple[str, float], instructions: float | None = None) -> list[Turn]:
    return [Turn(side, cpu_us, 1e6 / cpu_us, instructions) for side, cpu_us in costs]


class TestPairs:
    @pytest.mark.parametrize("order", compare.ORDERS)
    def test_a_round_gives_two_pairs_of_neighbours(self, order):
        """The other checkout is first in each pair, in each order of turns; no turn is in two pairs."""
        found = compare.pairs(turns(*((side, float(number)) for number, side in enumerate(order, 1))))

        assert [("other", "here")] * 2 == [(other.side, here.side) for other, here in found]
        assert [{1.0, 2.0}, {3.0, 4.0}] == [{other.cpu_us, here.cpu_us} for other, here in found]

    def test_both_sides_are_first_equally_often(self):
        firsts = [order[index] for order in compare.ORDERS for index in (0, 2)]

        assert firsts.count("other") == firsts.count("here")

    def test_two_neighbours_of_one_side_are_not_a_pair(self):
        with pytest.raises(AssertionError, match="a pair of here and here"):
            compare.pairs(turns(("here", 1.0), ("here", 2.0)))


class TestReport:
    def test_the_ratio_is_the_median_over_pairs_not_a_ratio_of_medians(self):
        """The machine became five times slower after the first pair, for both sides, so their ratio stayed."""
        slowed = turns(("other", 10.0), ("here", 9.0), ("here", 45.0), ("other", 50.0), ("here", 4.0), ("other", 50.0))
        text = compare.report(slowed, SOURCES, "request")

        assert "CPU: 0.900 (half of them between 0.490 and 0.900; below 1 in 3 of 3)" in text
        assert "other            50.00   10.00      20,000             -  /before" in text
        assert "here              9.00    4.00     111,111             -  /after" in text
        assert "least CPU: 0.400, " in text
        assert "instructions: " not in text

    def test_one_pair_is_enough(self):
        text = compare.report(turns(("other", 10.0), ("here", 11.0)), SOURCES, "message")

        assert "CPU: 1.100 (half of them between 1.100 and 1.100; below 1 in 0 of 1)" in text
        assert " CPU µs/message   least  messages/s " in text

    def test_instructions_are_compared_if_they_were_counted(self):
        text = compare.report(
            turns(("other", 10.0), instructions=50_000.0) + turns(("here", 11.0), instructions=49_000.0),
            SOURCES,
            "request",
        )

        assert "instructions: 0.980 " in text
        assert "     49,000  /after" in text


class TestCommand:
    def test_a_folder_without_the_package_is_a_usage_error(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            compare.main([str(tmp_path)])

        assert f"{tmp_path} does not contain the package asgid" in capsys.readouterr().err

    @pytest.mark.parametrize("option", ["--rounds", "--seconds"])
    def test_zero_rounds_or_seconds_are_a_usage_error(self, option, capsys):
        with pytest.raises(SystemExit):
            compare.main([str(ROOT), option, "0"])

        assert "--rounds and --seconds are 1 or more" in capsys.readouterr().err

    def test_the_two_sides_differ_in_the_package_alone(self, tmp_path):
        """The server imports `asgid` from the other checkout, and the application from this one."""
        (tmp_path / "checkout" / "asgid").mkdir(parents=True)
        root = compare._directory(tmp_path / "other", tmp_path / "checkout") / "root"

        assert tmp_path / "checkout" / "asgid" == (root / "asgid").resolve()
        assert ROOT / "benchmarks" == (root / "benchmarks").resolve()

    def test_source_returns_the_folder_alone_without_a_git_repository(self, tmp_path):
        assert str(tmp_path) == compare.source(tmp_path)


class TestPerf:
    def test_parse_returns_the_first_field_of_the_line_of_the_event(self):
        output = "some note, of perf\n1234567,,instructions:u,1003219045,100.00,,\n"

        assert 1234567 == perf.parse(output)

    @pytest.mark.parametrize("output", ["", "<not supported>,,instructions:u,0,100.00,,\n", "7,,cycles:u,1,100.00,,\n"])
    def test_an_output_without_a_count_raises_an_error(self, output):
        with pytest.raises(perf.PerfError, match="perf counts no instructions here"):
            perf.parse(output)

    def test_perf_is_not_started_without_a_process_to_count(self, monkeypatch):
        monkeypatch.setattr("subprocess.Popen", None)
        with perf.counting_instructions(()) as counted:
            pass

        assert [] == counted
