"""The user of the workers, for settings that name one and for a uid without a name."""

import grp
import os
import pwd

import pytest

from asgid.config.tables import Process
from asgid.user import User, user_of


def test_a_group_works_with_a_uid_that_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that was started with `--user 12345`, /etc/passwd has no line for it."""
    monkeypatch.setattr("asgid.user.os.getuid", lambda: 54321)
    with pytest.raises(KeyError):
        pwd.getpwuid(54321)
    group = grp.getgrall()[1]
    found = user_of(Process(group=group.gr_name))

    assert found is not None
    assert (found.name, found.uid, found.gid) == ("54321", 54321, group.gr_gid)
    assert group.gr_gid in found.groups


def test_a_user_is_found_by_its_id() -> None:
    """It is the same user as by its name, with its home and its groups."""
    assert user_of(Process(user="nobody")) == user_of(Process(user=str(pwd.getpwnam("nobody").pw_uid)))


def test_an_id_without_a_name_is_a_user_with_one_group() -> None:
    """As a container has it; the groups and the home of root are not passed on."""
    found = user_of(Process(user="54321", group="54322"))

    assert User("54321", "/", 54321, 54322, (54322,)) == found


def test_an_id_without_a_name_needs_a_group() -> None:
    """Without one it would keep the group of root."""
    with pytest.raises(LookupError, match="uid 54321 has no name on this machine"):
        user_of(Process(user="54321"))


def test_the_own_id_of_a_container_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started as this user keeps its groups."""
    monkeypatch.setattr("asgid.user.os.getuid", lambda: 54321)
    found = user_of(Process(user="54321"))

    assert found is not None
    assert (found.uid, found.gid) == (54321, os.getgid())
    assert {os.getgid(), *os.getgroups()} == set(found.groups)


def test_a_name_that_is_missing_is_in_the_message() -> None:
    """The same message for users and groups, in a start and in `asgid check`."""
    with pytest.raises(LookupError, match="this machine has no group 'nobody-knows-it'"):
        user_of(Process(user="54321", group="nobody-knows-it"))
