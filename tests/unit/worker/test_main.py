"""The first actions of a worker."""

import pytest

from asgid.assignment import Assignment
from asgid.board import BYTES, Board
from asgid.pipes import PipeEnd
from asgid.worker import main
from tests.settings import read


class _Begins(Exception):  # noqa: N818 - not an error
    """The worker has begun its work."""


def test_a_worker_sets_its_title_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that its title is that of the master, and it could get signals for the master."""
    titles: list[str] = []

    def begins() -> None:
        raise _Begins

    monkeypatch.setattr("asgid.worker.process.title.setproctitle", titles.append)
    monkeypatch.setattr(main, "raise_trim_threshold", begins)
    assignment = Assignment(3, 7, read(""), (), PipeEnd(-1, -1), -1, Board(bytearray(BYTES)))
    with pytest.raises(_Begins):
        main.main(assignment)

    assert titles == ["asgid: worker 3 [asgid] gen 7 booting"]
