"""The pid file names the one master, by a lock that dies with it, and is removed only by the one whose it is."""

import errno
import fcntl
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from asgid.errors import UnavailableError
from asgid.master.system.pidfile import PidFile
from tests.rights import NOBODY

HOLDER = (
    "import sys; from asgid.master.system.pidfile import PidFile; p = PidFile(sys.argv[1]); print('held', flush=True); "
)
LEAVES = HOLDER + "sys.stdin.read()"
NEXT = "import sys; print('executed', flush=True); sys.stdin.read()"
EXECUTES = (
    "import os, sys; from asgid.master.system.pidfile import PidFile; p = PidFile(sys.argv[1]); "
    f"os.set_inheritable(p.fd, True); os.execv(sys.executable, [sys.executable, '-c', {NEXT!r}])"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "asgid.pid"


def test_it_holds_our_pid_and_is_gone_afterwards(path: Path):
    """One line, for scripts."""
    held = PidFile(str(path))

    assert path.read_text() == f"{os.getpid()}\n"

    held.remove()

    assert not path.exists()


def test_a_path_means_the_directory_in_which_the_master_was_started(path: Path, monkeypatch):
    """Also when it is removed from another one."""
    monkeypatch.chdir(path.parent)
    held = PidFile("asgid.pid")
    monkeypatch.chdir("/")
    held.remove()

    assert not path.exists()


def test_a_file_that_went_with_its_directory_is_taken_over_and_let_go(path: Path, tmp_path: Path, monkeypatch):
    """A program that takes another's place finds the descriptor; the name leads nowhere, and is nobody's."""
    gone = tmp_path / "release"
    gone.mkdir()
    monkeypatch.chdir(gone)
    left = os.dup(PidFile("asgid.pid").fd)
    (gone / "asgid.pid").unlink()
    gone.rmdir()
    PidFile("asgid.pid", left).remove()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(left)


def test_a_second_master_is_refused_and_told_whom_to_stop(path: Path):
    """The file stays the first one's; when that is killed, its lock is gone without anybody's help."""
    with subprocess.Popen(
        [sys.executable, "-c", LEAVES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout
        assert first.stdout.readline() == b"held\n"

        with pytest.raises(UnavailableError, match=rf"belongs to a running master \(pid {first.pid}\); stop that one"):
            PidFile(str(path))

        assert path.read_text() == f"{first.pid}\n"

        first.kill()
        first.wait(10)
        held = PidFile(str(path))

        assert path.read_text() == f"{os.getpid()}\n"

        held.remove()


@pytest.mark.parametrize("how", ["flock", "record lock"])
def test_who_may_only_read_the_file_keeps_no_master_from_starting(path: Path, how: str):
    """Any user can lock what he can read, and hold on to it; a second master is refused all the same."""
    path.write_text("1\n")
    with path.open() as readers:
        if how == "flock":
            fcntl.flock(readers, fcntl.LOCK_EX)
        else:
            fcntl.fcntl(readers, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        held = PidFile(str(path))

        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(UnavailableError, match="belongs to a running master"):
            PidFile(str(path))

    held.remove()

    assert not path.exists()


def test_a_link_is_not_followed(path: Path, tmp_path: Path):
    """What it leads to would be overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("data")
    path.symlink_to(victim)

    with pytest.raises(UnavailableError, match=f"cannot write {path}: it is a symbolic link"):
        PidFile(str(path))

    assert victim.read_text() == "data"


def test_another_name_of_somebody_elses_file_is_not_written(path: Path, tmp_path: Path):
    """Any user who may write in the directory can make that link, if the kernel lets him (fs.protected_hardlinks)."""
    victim = tmp_path / "victim"
    victim.write_text("data")
    path.hardlink_to(victim)

    with pytest.raises(UnavailableError, match=f"{path} has another name too"):
        PidFile(str(path))

    assert victim.read_text() == "data"
    assert path.exists()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (os.mkfifo, "is not a regular file"),
        (os.mkdir, "Is a directory"),
        (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "No such device or address"),
    ],
    ids=["fifo", "directory", "socket"],
)
def test_what_is_not_a_file_is_refused_at_once(path: Path, make, problem):
    """It is neither waited for nor removed."""
    make(path)

    with pytest.raises(UnavailableError, match=problem):
        PidFile(str(path))

    assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_file_of_another_user_in_a_directory_for_all_is_refused(path: Path):
    """Its owner could write another pid there later, and have root signal that process."""
    path.parent.chmod(0o1777)
    path.touch()
    os.chown(path, NOBODY, NOBODY)

    with pytest.raises(UnavailableError, match=f"belongs to uid {NOBODY}"):
        PidFile(str(path))


def test_no_empty_file_is_left_where_the_disk_is_full(path: Path, monkeypatch):
    """A script would read no pid from it, and a package would take it for a master's."""

    def is_full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", is_full)
    with pytest.raises(UnavailableError, match="No space left on device"):
        PidFile(str(path))

    assert not path.exists()


def test_the_lock_is_still_there_in_the_next_program(path: Path):
    """USR2: the process executes another program, to which it leaves the descriptor."""
    with subprocess.Popen(
        [sys.executable, "-c", EXECUTES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout
        assert first.stdout.readline() == b"executed\n"

        with pytest.raises(UnavailableError, match=rf"belongs to a running master \(pid {first.pid}\)"):
            PidFile(str(path))


def test_a_lock_of_the_other_kind_is_made_ours_when_it_is_taken_over(path: Path):
    """An older version locked the file with flock(2)."""
    with path.open("w") as left:
        fcntl.flock(left, fcntl.LOCK_EX)
        held = PidFile(str(path), os.dup(left.fileno()))

        with pytest.raises(UnavailableError, match="belongs to a running master"):
            PidFile(str(path))

        held.remove()


def test_a_file_from_before_is_overwritten_to_its_end(path: Path):
    """A longer number leaves no digits behind."""
    path.write_text("12345678901234567890\nand more\n")
    held = PidFile(str(path))

    assert path.read_text() == f"{os.getpid()}\n"

    held.remove()


def test_a_file_that_somebody_else_has_put_there_since_stays(path: Path):
    """It says who is master now."""
    held = PidFile(str(path))
    path.unlink()
    path.write_text("1\n")
    held.remove()

    assert path.read_text() == "1\n"


def test_a_file_that_is_gone_already_is_no_trouble(path: Path):
    """Somebody tidied up."""
    held = PidFile(str(path))
    path.unlink()
    held.remove()

    assert not path.exists()


def test_a_file_that_its_master_removes_while_we_wait_for_the_lock_is_made_anew(path: Path, monkeypatch):
    """A lock on a file without a name would let a third master in beside us."""
    lock, before = fcntl.fcntl, len(os.listdir("/proc/self/fd"))

    def remove_and_lock(fd: int, command: int, argument: bytes) -> object:
        monkeypatch.setattr(fcntl, "fcntl", lock)
        path.unlink()
        return lock(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", remove_and_lock)
    held = PidFile(str(path))

    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(UnavailableError, match="belongs to a running master"):
        PidFile(str(path))

    held.remove()

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("name", "reason"), [("missing/asgid.pid", "No such file or directory"), (".", "Is a directory")]
)
def test_where_it_cannot_be_written_the_setting_and_the_path_are_named(tmp_path: Path, name, reason):
    """The operator finds both in one line."""
    with pytest.raises(UnavailableError) as caught:
        PidFile(str(tmp_path / name))

    assert str(caught.value) == f"process.pid_file: cannot write {os.path.abspath(tmp_path / name)}: {reason}"


def test_a_disk_that_is_full_leaves_no_empty_file(path: Path):
    """It would name no process, and scripts would read nothing in it. Here the limit of file sizes is the full disk."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); " + HOLDER
    done = subprocess.run([sys.executable, "-c", limited, str(path)], capture_output=True, text=True, check=False)

    assert "cannot write" in done.stderr
    assert not path.exists()
