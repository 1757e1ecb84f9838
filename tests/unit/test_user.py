"""Whom the workers become, for users that this machine knows and for one that has only a number."""

import grp
import pwd

import pytest

from asgid.config import Process
from asgid.user import user_of


def test_a_group_works_with_a_uid_that_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that was started with `--user 12345` has no line in /etc/passwd for it."""
    monkeypatch.setattr("asgid.user.os.getuid", lambda: 54321)
    with pytest.raises(KeyError):
        pwd.getpwuid(54321)
    group = grp.getgrall()[1]
    found = user_of(Process(group=group.gr_name))

    assert found is not None
    assert (found.name, found.uid, found.gid) == ("54321", 54321, group.gr_gid)
    assert group.gr_gid in found.groups
