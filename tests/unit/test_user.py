"""The user of the workers, for settings that name one and for a uid without a name."""

import grp
import pwd

import pytest

from asgid.config import Process
from asgid.user import user_of


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
