"""Of each kind of refusal one a second is said, and none is forgotten."""

from typing import cast

from asgid.board import BYTES, PROTOCOL_CELL, Board
from asgid.log import Log
from asgid.worker.http.rejection_log import QUIET_S, RejectionLog

_NO_LOG = cast("Log", None)


def test_one_a_second_of_each_kind_is_said():
    """The next one that is says how many were not."""
    refusals = RejectionLog(_NO_LOG, Board(bytearray(BYTES)).row(0))
    said = [refusals.suppressed_since_last("malformed", now) for now in (5.0, 5.1, 5.9, 5.0 + QUIET_S, 6.5, 9.0, 10.0)]

    assert [0, None, None, 2, None, 1, 0] == said


def test_kinds_do_not_silence_each_other():
    """A flood of one leaves the others their line; all are counted."""
    row = Board(bytearray(BYTES)).row(0)
    refusals = RejectionLog(_NO_LOG, row)
    flood = [refusals.suppressed_since_last("malformed", 5.0) for _ in range(1000)]

    assert 999 == flood.count(None)
    assert 0 == refusals.suppressed_since_last("framing", 5.0)
    assert 999 == refusals.suppressed_since_last("malformed", 5.0 + QUIET_S)
    assert (1001, 1) == (row[PROTOCOL_CELL["malformed"]], row[PROTOCOL_CELL["framing"]])
