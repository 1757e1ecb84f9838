"""The list of descriptors has only those that asgid opened itself."""

import os

from asgid import descriptors
from asgid.descriptors import identity, listed


def test_a_descriptor_of_asgid_is_listed_under_a_high_number() -> None:
    """open(2) returns the lowest free number, so other code does not get a high one."""
    fd = descriptors.own(os.memfd_create("own"))

    with open(os.devnull) as other:
        assert other.fileno() < fd
    assert fd in listed()
    os.close(fd)


def test_a_number_that_other_code_has_reused_is_not_listed() -> None:
    """Otherwise a child would close the file of an agent, and a client could receive the agent's data."""
    fd = descriptors.own(os.memfd_create("own"))
    os.close(fd)
    other = os.memfd_create("other")
    os.dup2(other, fd)

    assert fd not in listed()
    descriptors.close_all_but(listed() - {fd})
    assert identity(other) == identity(fd)
    os.close(fd)
    os.close(other)


def test_a_descriptor_that_was_closed_is_not_listed() -> None:
    fd = descriptors.own(os.memfd_create("own"))
    os.close(fd)

    assert fd not in listed()
