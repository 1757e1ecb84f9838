"""Root opens a log file with its own rights only if no other user can change the path."""

import os
import pwd
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from asgid.config.tables import Process
from asgid.logfile import open_log
from asgid.user import User, user_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

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
    """A readable directory of root, with `roots`, which is the same, and `his`, which is the user's."""
    with tempfile.TemporaryDirectory(prefix="asgid-") as name:
        home = Path(name)
        for directory in (home, home / "roots", home / "his"):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        os.chown(home / "his", HIS.pw_uid, HIS.pw_gid)
        yield home


def make_roots(path: Path, mode: int, gid: int = 0) -> Path:
    """Make a directory that root owns."""
    path.mkdir()
    os.chown(path, 0, gid)
    path.chmod(mode)
    return path


def a_link_in_the_users_directory(home: Path) -> Path:
    (home / "his" / "a.log").symlink_to(home / "roots" / "a.log")
    return home / "his" / "a.log"


def a_directory_that_is_a_link(home: Path) -> Path:
    (home / "his" / "logs").symlink_to(home / "roots")
    return home / "his" / "logs" / "a.log"


def a_link_of_root_to_a_link_of_the_user(home: Path) -> Path:
    (home / "his" / "logs").symlink_to("../roots")
    (home / "logs").symlink_to("his/logs")
    return home / "logs" / "a.log"


def a_path_through_the_users_directory_and_back(home: Path) -> Path:
    return home / "his" / ".." / "roots" / "a.log"


def a_link_in_a_directory_of_the_users_group(home: Path) -> Path:
    link = make_roots(home / "shared", 0o775, HIS.pw_gid) / "a.log"
    link.symlink_to(home / "roots" / "a.log")
    return link


def a_link_in_a_directory_that_is_writable_for_all(home: Path) -> Path:
    link = make_roots(home / "all", 0o1777) / "a.log"
    link.symlink_to(home / "roots" / "a.log")
    return link


def a_directory_that_the_user_can_replace(home: Path) -> Path:
    make_roots(home / "his" / "logs", 0o755)
    (home / "his" / "logs" / "a.log").symlink_to(home / "roots" / "a.log")
    return home / "his" / "logs" / "a.log"


def a_directory_that_can_be_renamed(home: Path) -> Path:
    link = make_roots(make_roots(home / "all", 0o777) / "logs", 0o755) / "a.log"
    link.symlink_to(home / "roots" / "a.log")
    return link


def a_directory_of_the_user_without_write_permission(home: Path) -> Path:
    a_link_in_the_users_directory(home)
    (home / "his").chmod(0o555)
    return home / "his" / "a.log"


def a_directory_of_a_third_user(home: Path) -> Path:
    os.chown(home / "his", 1, 1)
    return a_link_in_the_users_directory(home)


WAYS = [
    a_link_in_the_users_directory,
    a_directory_that_is_a_link,
    a_link_of_root_to_a_link_of_the_user,
    a_path_through_the_users_directory_and_back,
    a_link_in_a_directory_of_the_users_group,
    a_link_in_a_directory_that_is_writable_for_all,
    a_directory_that_the_user_can_replace,
    a_directory_that_can_be_renamed,
    a_directory_of_the_user_without_write_permission,
    a_directory_of_a_third_user,
]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_a_path_that_the_user_can_change_is_opened_with_the_rights_of_the_user(home: Path, user: User, way) -> None:
    """No file is created where only root may write. The message names the user and the condition for root."""
    path = way(home)

    with pytest.raises(PermissionError, match=r"\(opened as nobody; opened as root only if root owns"):
        open_log(user, path)

    assert os.listdir(home / "roots") == []
    assert (os.getresuid(), os.getresgid()) == ((0, 0, 0), (0, 0, 0))


def test_a_file_of_root_behind_a_link_of_the_user_is_not_opened(home: Path, user: User) -> None:
    (home / "roots" / "a.log").touch(0o640)

    with pytest.raises(PermissionError):
        open_log(user, a_link_in_the_users_directory(home))


def test_an_access_control_list_is_respected(home: Path, user: User) -> None:
    try:
        os.setxattr(home / "roots", "system.posix_acl_access", ACL)
    except OSError:
        pytest.skip("this file system has no access control lists")
    make_roots(home / "closed", 0o755)
    (home / "roots" / "a.log").symlink_to(home / "closed" / "a.log")

    with pytest.raises(PermissionError):
        open_log(user, home / "roots" / "a.log")


def test_in_the_users_directory_the_file_belongs_to_the_user(home: Path, user: User) -> None:
    """So the workers can open it again after a rotation."""
    os.close(open_log(user, home / "his" / "a.log"))
    found = (home / "his" / "a.log").stat()

    assert (HIS.pw_uid, HIS.pw_gid, 0o640) == (found.st_uid, found.st_gid, found.st_mode & 0o777)


def test_a_path_that_only_root_can_change_is_opened_as_root(home: Path, user: User) -> None:
    """Even through links of root, and below a sticky directory such as /tmp."""
    closed = make_roots(make_roots(home / "all", 0o1777) / "closed", 0o700)
    (home / "link").symlink_to(closed)
    os.close(open_log(user, home / "link" / ".." / "closed" / "a.log"))

    assert (closed / "a.log").stat().st_uid == 0


def test_a_directory_of_a_group_without_the_user_is_opened_as_root(home: Path, user: User) -> None:
    """In some distributions /var/log is writable for a group, which the user of the workers is not in."""
    path = make_roots(home / "log", 0o775, gid=4) / "a.log"
    os.close(open_log(user, path))

    assert path.stat().st_uid == 0


def test_an_inherited_descriptor_is_opened_as_root(user: User) -> None:
    """/dev/stdout is a link to one; the process that started asgid has opened it."""
    reader, writer = os.pipe()
    copy = open_log(user, Path(f"/proc/self/fd/{writer}"))
    os.write(copy, b"x")

    assert os.read(reader, 1) == b"x"

    for fd in (reader, writer, copy):
        os.close(fd)


@pytest.mark.parametrize("place", ["his", "all"], ids=["directory-of-the-user", "as-in-tmp"])
def test_the_check_never_follows_a_link_of_the_user(home: Path, user: User, monkeypatch, place: str) -> None:
    """38 links of 1,300 names each kept the master busy for seconds, at each open of the file."""
    make_roots(home / "all", 0o1777)
    directory = home / place
    (directory / "d").mkdir()
    for number in range(38):
        following = directory / (f"link{number + 1}" if number < 37 else "end.log")
        link = directory / ("a.log" if number == 0 else f"link{number}")
        link.symlink_to("d/../" * 800 + following.name)
        os.chown(link, HIS.pw_uid, HIS.pw_gid, follow_symlinks=False)
    followed: list[Path] = []
    real = Path.readlink

    def readlink(path: Path) -> Path:
        followed.append(path)
        return real(path)

    monkeypatch.setattr(Path, "readlink", readlink)
    with suppress(PermissionError):
        os.close(open_log(user, directory / "a.log"))

    assert followed == []


def test_a_path_of_too_many_directories_is_opened_with_the_rights_of_the_user(home: Path, user: User) -> None:
    """A chain of links of root is followed, but not without a limit."""
    (home / "a.log").symlink_to("../" * 1300 + str(home / "roots" / "a.log").lstrip("/"))
    with pytest.raises(PermissionError):
        open_log(user, home / "a.log")


def test_links_in_a_circle_are_an_error_of_the_open(home: Path, user: User) -> None:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")

    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_log(user, home / "a")


def test_impersonation_ends_with_the_rights_of_before(user: User) -> None:
    before = os.getresuid(), os.getresgid(), os.getgroups()

    inside: list[object] = []

    def fail() -> None:
        inside.extend((os.getresuid(), os.getresgid(), sorted(os.getgroups())))
        raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"), user.impersonated():
        fail()

    assert [(0, user.uid, 0), (0, user.gid, 0), sorted(user.groups)] == inside
    assert before == (os.getresuid(), os.getresgid(), os.getgroups())
