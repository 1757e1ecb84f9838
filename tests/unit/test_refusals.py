"""Of each kind of refusal one a second is said, and none is forgotten."""

from asgid.worker.refusals import QUIET_S, Refusals


def test_one_a_second_of_each_kind_is_said():
    """The next one that is says how many were not."""
    refusals = Refusals()
    said = [refusals.unsaid_before("malformed", now) for now in (5.0, 5.1, 5.9, 5.0 + QUIET_S, 6.5, 9.0, 10.0)]

    assert [0, None, None, 2, None, 1, 0] == said


def test_kinds_do_not_silence_each_other():
    """A flood of one leaves the others their line."""
    refusals = Refusals()
    flood = [refusals.unsaid_before("malformed", 5.0) for _ in range(1000)]

    assert 999 == flood.count(None)
    assert 0 == refusals.unsaid_before("framing", 5.0)
    assert 999 == refusals.unsaid_before("malformed", 5.0 + QUIET_S)
