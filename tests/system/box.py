"""Boots a Debian with a real systemd as its first process, in a container on the tree that `make system` makes.

The files that the container writes stay in memory. Its network has only loopback, so a unit can use its real ports.
This module does not depend on asgid.
"""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.daemon import eventually
from tests.system import needs

#: On a host without systemd no manager gives the container a control group, so the box makes one in each of these.
CGROUPS = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
ENTER_GROUPS = 'for group in $OWN_GROUPS; do echo $$ > "$group/cgroup.procs"; done; exec "$@"'
POWER_OFF = signal.SIGRTMIN + 4  # systemd(1), "Signals"
ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")


class Box:
    """A container that runs during its `with` block; `files` maps paths inside, read-only, to files outside."""

    def __init__(self, tree: Path, name: str, files: Mapping[str, Path], directory: Path) -> None:
        self.tree = tree
        self.name = name
        self.files = files
        self.console = directory / "console"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            groups = (
                [] if Path("/run/systemd/system").exists() else [top / self.name for top in CGROUPS if top.exists()]
            )
            for group in groups:
                group.mkdir()
                stack.callback(remove_group, group)
            command = [needs.program("systemd-nspawn"), f"--machine={self.name}", f"--directory={self.tree}", "--quiet"]
            command += ["--boot", "--volatile=overlay"]
            command += ["--register=no", *(["--keep-unit"] if groups else []), "--private-network", "--link-journal=no"]
            command += ["--resolv-conf=off", "--timezone=off", "--console=pipe"]
            command += [f"--bind-ro={outside}:{inside}" for inside, outside in self.files.items()]
            environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
            console = stack.enter_context(self.console.open("ab"))
            process = subprocess.Popen(
                ["sh", "-c", ENTER_GROUPS, "sh", *command, "--", "systemd.log_target=journal"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=environment | {"OWN_GROUPS": " ".join(map(str, groups)), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                start_new_session=True,
            )
            stack.callback(self._end, process)
            self._first = eventually(lambda: self._systemd(process), within=60)[0]
            state = eventually(self._state, within=300)
            assert state == "running", self.do("systemctl", "--failed", "--no-legend").stdout
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def do(self, *command: str, within: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root, and return its result."""
        enter = [needs.program("nsenter"), "--target", str(self._first.pid), "--all", "--root", "--wd=/"]
        return subprocess.run(
            [*enter, "--", "/usr/bin/env", "-i", *ENVIRONMENT, *command],
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def _systemd(self, process: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """Return the container's first process, once it is systemd."""
        assert process.poll() is None, self.console.read_text()
        return [child for child in psutil.Process(process.pid).children() if child.name() == "systemd"]

    def _state(self) -> str:
        """Return the result of the boot, "running" or "degraded"; "" before its end, also while systemd is offline."""
        state = self.do("systemctl", "is-system-running", "--wait").stdout.strip()
        return state if state in ("running", "degraded") else ""

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            for first in psutil.Process(process.pid).children():
                first.send_signal(POWER_OFF)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def remove_group(group: Path) -> None:
    """Remove a control group and those below it, except the ones that contain a process."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)
