"""Root opens a log file only where nobody else can say which file that is."""

import os
import pwd
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgid.config import Process
from asgid.logfile import open_log
from asgid.user import User, user_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

HIS = pwd.getpwnam("nobody")

NOBODYS = 0xFFFFFFFF  # the id of an entry that needs none
#: rwx for the owner, this user and the mask, r-x for group and others (acl(5); linux/posix_acl_xattr.h).
ACL = struct.pack(
    "<I" + 5 * "HHI",
    2,
    *(0x01, 7, NOBODYS),
    *(0x02, 7, HIS.pw_uid),
    *(0x04, 5, NOBODYS),
    *(0x10, 7, NOBODYS),
    *(0x20, 5, NOBODYS),
)


@pytest.fixture
def user() -> User:
    found = user_of(Process(user="nobody"))
    assert found
    return found


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of root's that all may look into, with `roots` of the same kind and `his`, which is the user's."""
    with tempfile.TemporaryDirectory(prefix="asgid-") as name:
        home = Path(name)
        for directory in (home, home / "roots", home / "his"):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        os.chown(home / "his", HIS.pw_uid, HIS.pw_gid)
        yield home


def give(path: Path, mode: int, gid: int = 0) -> Path:
    """Make a directory of root's."""
    path.mkdir()
    os.chown(path, 0, gid)
    path.chmod(mode)
    return path


def a_link_in_his_directory(home: Path) -> Path:
    (home / "his" / "a.log").symlink_to(home / "roots" / "a.log")
    return home / "his" / "a.log"


def a_directory_that_is_a_link(home: Path) -> Path:
    (home / "his" / "logs").symlink_to(home / "roots")
    return home / "his" / "logs" / "a.log"


def a_link_of_roots_to_a_link_of_his(home: Path) -> Path:
    (home / "his" / "logs").symlink_to("../roots")
    (home / "logs").symlink_to("his/logs")
    return home / "logs" / "a.log"


def a_way_back_out_of_his_directory(home: Path) -> Path:
    return home / "his" / ".." / "roots" / "a.log"


def a_link_in_a_directory_of_his_group(home: Path) -> Path:
    link = give(home / "shared", 0o775, HIS.pw_gid) / "a.log"
    link.symlink_to(home / "roots" / "a.log")
    return link


def a_link_where_all_may_write(home: Path) -> Path:
    link = give(home / "all", 0o1777) / "a.log"
    link.symlink_to(home / "roots" / "a.log")
    return link


def a_directory_that_he_may_put_another_in_the_place_of(home: Path) -> Path:
    give(home / "his" / "logs", 0o755)
    (home / "his" / "logs" / "a.log").symlink_to(home / "roots" / "a.log")
    return home / "his" / "logs" / "a.log"


def a_directory_that_may_be_moved_away(home: Path) -> Path:
    link = give(give(home / "all", 0o777) / "logs", 0o755) / "a.log"
    link.symlink_to(home / "roots" / "a.log")
    return link


def a_directory_of_his_that_is_closed_for_now(home: Path) -> Path:
    a_link_in_his_directory(home)
    (home / "his").chmod(0o555)
    return home / "his" / "a.log"


def a_directory_of_somebody_elses(home: Path) -> Path:
    os.chown(home / "his", 1, 1)
    return a_link_in_his_directory(home)


WAYS = [
    a_link_in_his_directory,
    a_directory_that_is_a_link,
    a_link_of_roots_to_a_link_of_his,
    a_way_back_out_of_his_directory,
    a_link_in_a_directory_of_his_group,
    a_link_where_all_may_write,
    a_directory_that_he_may_put_another_in_the_place_of,
    a_directory_that_may_be_moved_away,
    a_directory_of_his_that_is_closed_for_now,
    a_directory_of_somebody_elses,
]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_a_path_that_the_user_can_change_is_opened_with_the_rights_of_the_user(home: Path, user: User, way) -> None:
    """Where root alone may write nothing is made, and the message says who may not, and when root would."""
    path = way(home)

    with pytest.raises(PermissionError, match=r"Permission denied \(as nobody; as root only where all directories"):
        open_log(user, path)

    assert os.listdir(home / "roots") == []
    assert (os.getresuid(), os.getresgid()) == ((0, 0, 0), (0, 0, 0))


def test_a_file_of_root_behind_a_link_of_the_user_is_not_opened(home: Path, user: User) -> None:
    """Nor would it be behind a second name that he has made for it."""
    (home / "roots" / "a.log").touch(0o640)

    with pytest.raises(PermissionError):
        open_log(user, a_link_in_his_directory(home))


def test_an_access_control_list_is_respected(home: Path, user: User) -> None:
    """An access control list lets him write where neither owner, group nor mode say so."""
    try:
        os.setxattr(home / "roots", "system.posix_acl_access", ACL)
    except OSError:
        pytest.skip("this file system has no access control lists")
    give(home / "closed", 0o755)
    (home / "roots" / "a.log").symlink_to(home / "closed" / "a.log")

    with pytest.raises(PermissionError):
        open_log(user, home / "roots" / "a.log")


def test_in_the_users_directory_the_file_belongs_to_the_user(home: Path, user: User) -> None:
    """So that the workers can open it again after a rotation."""
    os.close(open_log(user, home / "his" / "a.log"))
    found = (home / "his" / "a.log").stat()

    assert (HIS.pw_uid, HIS.pw_gid, 0o640) == (found.st_uid, found.st_gid, found.st_mode & 0o777)


def test_a_path_that_only_root_can_change_is_opened_as_root(home: Path, user: User) -> None:
    """Also through links of root's own, and below a directory that all may write in, as /tmp is."""
    closed = give(give(home / "all", 0o1777) / "closed", 0o700)
    (home / "link").symlink_to(closed)
    os.close(open_log(user, home / "link" / ".." / "closed" / "a.log"))

    assert (closed / "a.log").stat().st_uid == 0


def test_a_directory_of_a_group_without_the_user_is_opened_as_root(home: Path, user: User) -> None:
    """/var/log is writable for a group of its own in some distributions: the workers' user is not in it."""
    path = give(home / "log", 0o775, gid=4) / "a.log"
    os.close(open_log(user, path))

    assert path.stat().st_uid == 0


def test_an_inherited_descriptor_is_opened_as_root(user: User) -> None:
    """/dev/stdout is a link to one: who started asgid has opened what is behind it."""
    reader, writer = os.pipe()
    copy = open_log(user, Path(f"/proc/self/fd/{writer}"))
    os.write(copy, b"x")

    assert os.read(reader, 1) == b"x"

    for fd in (reader, writer, copy):
        os.close(fd)


def test_links_in_a_circle_are_an_error_of_the_open(home: Path, user: User) -> None:
    """The error is the kernel's."""
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")

    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_log(user, home / "a")


def test_impersonation_ends_with_the_rights_of_before(user: User) -> None:
    """All three kinds, also where what was to be done has failed."""
    before = os.getresuid(), os.getresgid(), os.getgroups()

    inside: list[object] = []

    def fail() -> None:
        inside.extend((os.getresuid(), os.getresgid(), sorted(os.getgroups())))
        raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"), user.impersonated():
        fail()

    assert [(0, user.uid, 0), (0, user.gid, 0), sorted(user.groups)] == inside
    assert before == (os.getresuid(), os.getresgid(), os.getgroups())
