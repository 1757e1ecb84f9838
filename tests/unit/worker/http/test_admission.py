"""The cap on connections: paused at it, resumed below it, each once."""

import pytest

from asgid.worker.http.admission import Admission


@pytest.fixture
def said() -> list[str]:
    return []


def admission(said: list[str], cap: int) -> Admission:
    return Admission(cap, lambda: said.append("pause"), lambda: said.append("resume"))


def test_it_pauses_at_the_cap(said):
    """The connection that reaches the cap is admitted, and is the last one for now."""
    door = admission(said, 3)

    assert [False, False, True] == [door.entered() for _ in range(3)]
    assert ["pause"] == said
    assert (3, True) == (door.open, door.is_paused)


def test_it_resumes_below_the_cap_once(said):
    """The second one that leaves finds the doors open."""
    door = admission(said, 2)
    for _ in range(2):
        door.entered()
    door.left()
    door.left()

    assert ["pause", "resume"] == said
    assert (0, False) == (door.open, door.is_paused)


def test_those_that_were_accepted_meanwhile_pause_nothing_again(said):
    """More than one may come out of one turn of the loop: the pause is called once, and resumed only below the cap."""
    door = admission(said, 1)

    assert [True, False] == [door.entered(), door.entered()]
    door.left()
    assert ["pause"] == said
    door.left()
    assert ["pause", "resume"] == said


def test_it_pauses_again(said):
    """Each time the cap is reached counts."""
    door = admission(said, 1)
    for _ in range(3):
        assert door.entered()
        door.left()

    assert ["pause", "resume"] * 3 == said


def test_nothing_reopens_a_worker_that_drains(said):
    """Its doors were closed for good."""
    door = admission(said, 1)
    door.entered()
    door.is_closed = True
    door.left()

    assert ["pause"] == said


def test_a_worker_that_drains_does_not_step_back():
    """It takes the rest of the queue, also where that puts it ahead: to watch the queue again would open its doors."""
    said: list[str] = []
    door = Admission(2, lambda: said.append("pause"), lambda: None, lambda: said.append("back"))
    door.is_closed = True
    for _ in range(5):
        door.entered(0)

    assert said == []
    assert door.open == 5


@pytest.mark.parametrize(
    ("held", "fewest", "steps"), [(1, 0, 0), (2, 0, 1), (12, 10, 0), (13, 10, 1), (50, float("inf"), 0)]
)
def test_who_is_ahead_steps_back(held, fewest, steps):
    """Ahead is more than a tenth and one connection above the emptiest sibling; without siblings nobody is."""
    said: list[str] = []
    door = Admission(100, lambda: None, lambda: None, lambda: said.append("back"))
    for _ in range(held - 1):
        door.entered()
    said.clear()

    door.entered(fewest)

    assert ["back"] * steps == said


def test_at_the_cap_nobody_steps_back(said):
    """The doors are closed already."""
    door = Admission(2, lambda: said.append("pause"), lambda: said.append("resume"), lambda: said.append("back"))
    door.entered()
    door.entered(0)

    assert said == ["pause"]
