"""asgid needs /dev/null only in place of a standard stream that is closed, and for a trial of a new program."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client import get
from tests.conftest import Start
from tests.daemon import APPS, eventually

#: Commands that run a program in a mount namespace of its own, with an empty /dev, as a bare chroot has it.
MISSING = "mount -t tmpfs none /dev"
PRIVATE = f"{MISSING} && mknod -m 644 /dev/null c 1 3"  # as `umask 022; mknod` makes it: only root may write
FIX = "as root: rm -f /dev/null; mknod -m 666 /dev/null c 1 3 (null(4))"


def within(setup: str, streams: str = "") -> tuple[str, ...]:
    return ("unshare", "--mount", "sh", "-c", f'{setup} && exec "$@" {streams}', "sh")


def _may_mount() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    return subprocess.run([*within(PRIVATE), "true"], check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not _may_mount(), reason="needs root, and the right to mount (unshare(1), mknod(1))")


@pytest.fixture
def of_another_user() -> Iterator[dict[str, Any]]:
    """Return settings for workers of another user, with the applications in a directory that it can read."""
    with tempfile.TemporaryDirectory(prefix="asgid-") as directory:
        shutil.copytree(APPS, directory, dirs_exist_ok=True)
        os.chmod(directory, 0o755)
        yield {"app": {"directory": directory}, "process": {"user": "65534"}}


@pytest.mark.parametrize("setup", [MISSING, PRIVATE])
def test_open_standard_streams_need_no_null_device(start: Start, of_another_user, setup) -> None:
    """Workers of another user boot, and are replaced at a reload."""
    daemon = start("hello:application", prefix=within(setup), **of_another_user)

    assert get(daemon.address()).status == 200
    assert daemon.reload()["event"] == "reload committed"
    assert daemon.stop() == 0
    assert daemon.log_events(level="error") == []


def test_a_closed_input_needs_no_right_to_write_to_the_null_device(start: Start, of_another_user) -> None:
    daemon = start("hello:application", prefix=within(PRIVATE, "<&-"), **of_another_user)

    assert get(daemon.address()).status == 200
    assert daemon.stop() == 0


def test_a_closed_stream_without_a_null_device_ends_the_start_with_the_fix(launch: Start) -> None:
    daemon = launch(prefix=within(MISSING, ">&-"))

    assert daemon.wait() == 69
    assert f"descriptor 1, which is closed, needs /dev/null: No such file or directory; {FIX}" in daemon.log_text()
    assert "Traceback" not in daemon.log_text()


def test_an_application_that_closes_a_stream_without_a_null_device_does_not_boot(
    launch: Start, of_another_user
) -> None:
    """Otherwise a client could receive its output. The reason is in the log, with the fix."""
    daemon = launch("closes_output:application", prefix=within(PRIVATE), **of_another_user)

    assert daemon.wait() == 3
    (failure,) = daemon.log_events("cannot start: no worker became ready")
    assert f"descriptor 1, which is closed, needs /dev/null: Permission denied; {FIX}" in failure["problem"]


def test_an_upgrade_without_a_null_device_is_refused_with_the_fix(start: Start) -> None:
    """The reason is not that the program is missing."""
    daemon = start(prefix=within(MISSING))
    daemon.signal("USR2")
    (refusal,) = eventually(lambda: daemon.log_events("upgrade refused"))

    assert refusal["reason"].endswith(f"a trial of a new program needs /dev/null: No such file or directory; {FIX}")
    assert get(daemon.address()).status == 200
    assert daemon.stop() == 0
