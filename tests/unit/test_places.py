"""Requests at a time: so many begin, so many wait, the rest is refused; and whoever waited longest goes first."""

from asgid.worker.admission import Entry, Places


def places(cap: int = 2, room: int = 2, patience: float = 5.0) -> Places[str]:
    return Places(cap, room, patience)


def test_up_to_the_cap_they_begin_then_wait_then_are_refused():
    """The waiting room is bounded too."""
    full = places()

    assert [Entry.BEGINS, Entry.BEGINS, Entry.WAITS, Entry.WAITS, Entry.REFUSED] == [
        full.enter(name, 10.0) for name in "abcde"
    ]
    assert (full.taken, len(full)) == (2, 2)


def test_a_place_goes_to_who_waited_longest():
    """It is taken at once: nobody who comes now is faster."""
    full = places()
    for name in "abcd":
        full.enter(name, 10.0)

    assert full.leave() == "c"
    assert full.enter("e", 10.0) is Entry.WAITS
    assert [full.leave(), full.leave(), full.leave(), full.leave()] == ["d", "e", None, None]
    assert full.taken == 0


def test_without_a_room_nobody_waits():
    """`limits.queue = 0` refuses at the cap."""
    full = places(cap=1, room=0)
    full.enter("a", 10.0)

    assert full.enter("b", 10.0) is Entry.REFUSED


def test_who_has_left_is_struck_out():
    """And takes nobody's place."""
    full = places()
    begun, _, waiting, _ = names = list("abcd")
    for name in names:
        full.enter(name, 10.0)
    full.forget(waiting)
    full.forget(begun)  # not in the room

    assert len(full) == 1
    assert full.leave() == "d"


def test_patience_ends_in_the_order_of_arrival():
    """Each waits as long as the next."""
    full = places(cap=1, room=3, patience=5.0)
    for name, now in (("a", 0.0), ("b", 10.0), ("c", 11.0), ("d", 12.0)):
        full.enter(name, now)

    assert full.overdue(14.9) == []
    assert full.overdue(16.0) == ["b", "c"]
    assert full.leave() == "d"
