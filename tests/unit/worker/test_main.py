"""What a worker does first of all."""

import pytest

from asgid.assignment import Assignment
from asgid.board import BYTES, Board
from asgid.worker import main
from tests.settings import read


class _Begins(Exception):  # noqa: N818 - it is no error
    """The worker has come to its first work."""


def test_it_bears_its_own_title_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it is an `asgid: master` to whoever looks for one, and would get the signals of one."""
    titles: list[str] = []

    def begins() -> None:
        raise _Begins

    monkeypatch.setattr(main, "setproctitle", titles.append)
    monkeypatch.setattr(main, "raise_trim_threshold", begins)
    assignment = Assignment(3, 7, read(""), (), -1, -1, Board(bytearray(BYTES)))
    with pytest.raises(_Begins):
        main.main(assignment)

    assert titles == ["asgid: worker 3 [asgid] gen 7 booting"]
