"""The pid file names the only master. Its lock ends with the process, and only its master removes it."""

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


def test_the_file_has_our_pid_and_is_removed_at_the_end(path: Path):
    held = PidFile(str(path))

    assert path.read_text() == f"{os.getpid()}\n"

    held.remove()

    assert not path.exists()


def test_a_relative_path_is_relative_to_the_directory_of_the_start(path: Path, monkeypatch):
    """Even if the master has changed its directory before it removes the file."""
    monkeypatch.chdir(path.parent)
    held = PidFile("asgid.pid")
    monkeypatch.chdir("/")
    held.remove()

    assert not path.exists()


def test_a_file_whose_directory_was_removed_is_taken_over_and_closed(path: Path, tmp_path: Path, monkeypatch):
    """The new program receives the descriptor, and its path no longer exists."""
    gone = tmp_path / "release"
    gone.mkdir()
    monkeypatch.chdir(gone)
    left = os.dup(PidFile("asgid.pid").fd)
    (gone / "asgid.pid").unlink()
    gone.rmdir()
    PidFile("asgid.pid", left).remove()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(left)


def test_a_second_master_is_refused_with_the_pid_of_the_first(path: Path):
    """The file keeps the pid of the first. If that master is killed, the kernel releases its lock."""
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
def test_a_lock_of_a_reader_does_not_prevent_a_start(path: Path, how: str):
    """Any user with read access can lock the file. A second master is refused all the same."""
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
    """Its target would be overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("data")
    path.symlink_to(victim)

    with pytest.raises(UnavailableError, match=f"cannot write {path}: it is a symbolic link"):
        PidFile(str(path))

    assert victim.read_text() == "data"


def test_a_hard_link_to_another_file_is_not_written(path: Path, tmp_path: Path):
    """A user with write access to the directory can make that link, unless fs.protected_hardlinks is set."""
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
def test_a_path_that_is_not_a_regular_file_is_refused_at_once(path: Path, make, problem):
    """Without a wait; it is not removed."""
    make(path)

    with pytest.raises(UnavailableError, match=problem):
        PidFile(str(path))

    assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_file_of_another_user_in_a_sticky_directory_is_refused(path: Path):
    """Its owner could later write another pid, and root would signal that process."""
    path.parent.chmod(0o1777)
    path.touch()
    os.chown(path, NOBODY, NOBODY)

    with pytest.raises(UnavailableError, match=f"belongs to uid {NOBODY}"):
        PidFile(str(path))


def test_no_empty_file_is_left_if_the_write_fails(path: Path, monkeypatch):
    """A script would read no pid from it."""

    def is_full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", is_full)
    with pytest.raises(UnavailableError, match="No space left on device"):
        PidFile(str(path))

    assert not path.exists()


def test_the_next_program_keeps_the_lock(path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", EXECUTES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout
        assert first.stdout.readline() == b"executed\n"

        with pytest.raises(UnavailableError, match=rf"belongs to a running master \(pid {first.pid}\)"):
            PidFile(str(path))


def test_a_file_that_an_older_version_locked_is_locked_again(path: Path):
    """An older version used flock(2), which another start does not see."""
    with path.open("w") as left:
        fcntl.flock(left, fcntl.LOCK_EX)
        held = PidFile(str(path), os.dup(left.fileno()))

        with pytest.raises(UnavailableError, match="belongs to a running master"):
            PidFile(str(path))

        held.remove()


def test_an_old_file_is_overwritten_completely(path: Path):
    path.write_text("12345678901234567890\nand more\n")
    held = PidFile(str(path))

    assert path.read_text() == f"{os.getpid()}\n"

    held.remove()


def test_a_file_that_another_process_put_there_is_not_removed(path: Path):
    held = PidFile(str(path))
    path.unlink()
    path.write_text("1\n")
    held.remove()

    assert path.read_text() == "1\n"


def test_a_file_that_is_already_removed_is_not_an_error(path: Path):
    held = PidFile(str(path))
    path.unlink()
    held.remove()

    assert not path.exists()


def test_a_file_that_its_master_removes_before_our_lock_is_made_again(path: Path, monkeypatch):
    """A lock on a removed file would not stop a third master."""
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
def test_a_failed_write_names_the_setting_and_the_path(tmp_path: Path, name, reason):
    with pytest.raises(UnavailableError) as caught:
        PidFile(str(tmp_path / name))

    assert str(caught.value) == f"process.pid_file: cannot write {os.path.abspath(tmp_path / name)}: {reason}"


def test_a_full_disk_leaves_no_empty_file(path: Path):
    """It would name no process. Here a limit of file sizes of 0 stands for the full disk."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); " + HOLDER
    done = subprocess.run([sys.executable, "-c", limited, str(path)], capture_output=True, text=True, check=False)

    assert "cannot write" in done.stderr
    assert not path.exists()
