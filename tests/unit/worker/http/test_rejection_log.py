"""The log has one rejection of each kind a second, and no rejection is lost."""

from typing import cast

from asgid.board import BYTES, PROTOCOL_CELL, Board
from asgid.log import Log
from asgid.worker.http.rejection_log import QUIET_S, RejectionLog

_NO_LOG = cast("Log", None)


def test_one_rejection_of_a_kind_is_logged_each_second():
    log = RejectionLog(_NO_LOG, Board(bytearray(BYTES)).row(0))
    suppressed = [log.suppressed_since_last("malformed", now) for now in (5.0, 5.1, 5.9, 5.0 + QUIET_S, 6.5, 9.0, 10.0)]

    assert [0, None, None, 2, None, 1, 0] == suppressed


def test_a_flood_of_one_kind_does_not_suppress_another():
    row = Board(bytearray(BYTES)).row(0)
    log = RejectionLog(_NO_LOG, row)
    flood = [log.suppressed_since_last("malformed", 5.0) for _ in range(1000)]

    assert 999 == flood.count(None)
    assert 0 == log.suppressed_since_last("framing", 5.0)
    assert 999 == log.suppressed_since_last("malformed", 5.0 + QUIET_S)
    assert (1001, 1) == (row[PROTOCOL_CELL["malformed"]], row[PROTOCOL_CELL["framing"]])
