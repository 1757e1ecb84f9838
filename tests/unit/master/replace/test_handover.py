"""A handover survives JSON unchanged, and one that cannot be read is refused with the reason."""

import json
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from asgid.board import LAYOUT
from asgid.master.net.listener_state import ListenerState
from asgid.master.replace.handover import FORMAT, Handover, decode, encode, is_receipt_for, receipt
from asgid.master.status.history import ReloadResult, StatusHistory
from asgid.master.supervision.backoff import Backoff
from asgid.master.supervision.lifecycle import ExitReason, StartReason, State, WorkerRecord
from asgid.master.supervision.state import SupervisorState
from asgid.master.workers.process_state import ProcessState
from tests.settings import plan_of

PLAN = plan_of(7, 2, heartbeat=inf)
DRAINING = WorkerRecord(3, plan_of(6, 4), 1.5, StartReason.CRASH, State.DRAINING, 50.25, exit_reason=ExitReason.RELOAD)
HANDOVER = Handover(
    config='[app]\ntarget = "shop:application"\n',
    generation=9,
    supervisor=SupervisorState(
        committed=PLAN,
        workers=(WorkerRecord.forked(0, PLAN, 17.0, StartReason.RECYCLE), DRAINING),
        backoff=Backoff(3, 12.5, 13.0),
        pending_starts=(StartReason.CRASH,),
        starts={StartReason.INITIAL: 4},
        exits={ExitReason.BLOCKED: 1},
    ),
    children=(ProcessState(0, 7, 811, 17.0, 8, 12, 9, '{"is": "rea'), ProcessState(3, 6, 812, 1.5, 10, 13, 11, "")),
    listeners=(
        ListenerState("127.0.0.1:0", "web", 2048, None, 5),
        ListenerState("unix:/run/a", "unix:/run/a", 1, 42, 6, 65),
    ),
    history=StatusHistory(
        started_monotonic=1.0,
        started_at=1_600_000_000.0,
        last_success=1_700_000_000.5,
        slots={0, 3},
        reloads={"committed": 6},
        last_reload=ReloadResult("rolled_back", "no module named shop", 8, 1_700_000_001.0),
        boots=[0, 1],
        boots_sum_s=0.25,
        exited_cpu_s={3: 1.25},
    ),
    board_fd=4,
    endpoint_fd=7,
    pid_file_fd=None,
    inherited={"http": [3]},
)


def changed(**parts: Any) -> str:
    return json.dumps(json.loads(encode(HANDOVER)) | parts)


def test_a_handover_survives_json_unchanged():
    found = decode(encode(HANDOVER))

    assert found == HANDOVER
    assert found.supervisor.workers[1].state is State.DRAINING
    assert found.supervisor.committed.heartbeat == inf


def test_descriptors_lists_every_descriptor():
    """execve(2) closes a descriptor that is not in the list."""
    assert sorted(HANDOVER.descriptors) == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]


def test_a_receipt_is_for_one_handover():
    """It proves what was read. The receipt of another handover, an empty answer and any other text are refused."""
    assert is_receipt_for(HANDOVER, receipt(HANDOVER))
    assert not is_receipt_for(replace(HANDOVER, generation=10), receipt(HANDOVER))
    assert not is_receipt_for(replace(HANDOVER, board_fd=14), receipt(HANDOVER))
    for answer in ("", "ok", "[]", "{}", "null", receipt(HANDOVER).replace("version", "name")):
        assert not is_receipt_for(HANDOVER, answer)


def test_a_later_version_may_add_a_field():
    assert decode(changed(colour="red")) == HANDOVER


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (changed(format=FORMAT + 1), f"the handover has format {FORMAT + 1}, this version reads {FORMAT}"),
        (changed(layout={**LAYOUT, "stride": 7}), "the board has another layout: stride"),
        (changed(board_fd="four"), "board_fd: Input should be a valid integer"),
        (changed(supervisor=None), "supervisor: Input should be"),
        ("{}", "this is not a handover: KeyError('format')"),
        ("[]", "this is not a handover: TypeError"),
        ("", "Expecting value"),
    ],
)
def test_a_handover_that_cannot_be_read_is_refused_with_the_reason(text, words):
    """In one line, which the trial of the new program prints."""
    with pytest.raises(ValueError) as caught:
        decode(text)

    assert words in str(caught.value)
