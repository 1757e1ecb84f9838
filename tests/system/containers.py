"""Runs buildah and podman with their own store and a local image `python:X.Y-slim`, without a registry.

That image consists of the Debian that `make system` makes and of the Python that runs the tests. Its layout is that of
the official image, `/usr/local/bin/python3`, so the Dockerfile builds unchanged. This module does not depend on asgid.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import needs
from tests.system.box import remove_group

STORE = needs.ROOT / ".cache" / "containers"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = f"docker.io/library/python:{VERSION}-slim"
LEFT_OUT = ("__pycache__", "site-packages", "test", "idlelib", "*.a")
PATHS = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
#: This machine's settings for the package index; the build sees them, and the image does not contain them.
PIP = [Path("/etc/pip.conf"), Path("/etc/ssl/certs/ca-certificates.crt")]


class Engine:
    """Builds images and runs containers; without `close()` its store stays mounted."""

    def __init__(self) -> None:
        self._buildah, self._podman = needs.program("buildah"), needs.program("podman")
        self._runtime = needs.program("runc")  # crun refuses a host that mixes both versions of control groups
        self._tree = needs.tree()
        self._store = [f"--root={STORE / 'images'}", f"--runroot={STORE / 'run'}", "--storage-driver=overlay"]
        STORE.mkdir(parents=True, exist_ok=True)
        (STORE / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')

    def close(self) -> None:
        """Unmount the store, so that it can be removed like any folder, and remove control groups without a process."""
        subprocess.run(["umount", "--lazy", str(STORE / "images" / "overlay")], capture_output=True, check=False)
        for group in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
            remove_group(group)

    def buildah(self, *arguments: str, within: float = 300.0) -> str:
        return _run([self._buildah, *self._store, *arguments], within).stdout.strip()

    def podman(self, *arguments: str) -> str:
        return self._run_podman(*arguments).stdout.strip()

    def stderr_of(self, number: str) -> str:
        """Return the standard error of a container."""
        return self._run_podman("logs", number).stderr

    def _run_podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        managed = ["--log-level=error", "--cgroup-manager=cgroupfs", f"--runtime={self._runtime}"]
        return _run([self._podman, *self._store, *managed, *arguments], within=300.0)

    def build(self, tag: str, context: Path) -> None:
        """Build the Dockerfile of `context` on BASE."""
        if BASE not in self.buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
            self._make_base()
        volumes = [f"--volume={file}:{file}:ro" for file in PIP if file.exists()]
        options = ["--isolation=chroot", "--network=host", "--pull-never", "--format=docker", "--layers"]
        version = f"--build-arg=PYTHON={VERSION}"
        self.buildah("build", *options, version, *volumes, "--tag", tag, str(context), within=1200)

    def run(self, image: str, *options: str) -> str:
        """Start a container in the background and return its number."""
        files = os.sysconf("SC_OPEN_MAX")  # podman's default is above the limit of some root users
        limits = [f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=4096:4096"]
        return self.podman("run", "--detach", "--pull=never", "--log-driver=k8s-file", *limits, *options, image)

    def _make_base(self) -> None:
        if Path(sys.base_prefix) == Path("/usr"):
            pytest.skip("the tests run on Debian's own Python, which cannot be copied: pyenv install 3.13")
        container = self.buildah("from", "--pull-never", "scratch")
        root = Path(self.buildah("mount", container))
        subprocess.run(["cp", "--archive", f"{self._tree}/.", str(root)], check=True)
        for folder in ("bin", "lib"):
            shutil.copytree(
                Path(sys.base_prefix) / folder,
                root / "usr" / "local" / folder,
                symlinks=True,
                ignore=shutil.ignore_patterns(*LEFT_OUT),
                dirs_exist_ok=True,
            )
        inside = ["chroot", str(root), "/usr/bin/env", "-i", PATHS, "HOME=/root"]
        library = f"/usr/local/lib/python{VERSION}/site-packages"
        for command in (
            ["mkdir", library],
            ["ln", "--symbolic", "--force", f"python{VERSION}", "/usr/local/bin/python3"],
            ["ln", "--symbolic", "--force", "python3", "/usr/local/bin/python"],
            ["ldconfig"],
            ["python3", "-m", "ensurepip", "--default-pip"],
        ):
            subprocess.run([*inside, *command], capture_output=True, check=True)
        self.buildah("umount", container)
        self.buildah("config", "--cmd", "python3", "--env", PATHS, "--env", "LANG=C.UTF-8", container)
        self.buildah("commit", "--quiet", "--format=docker", "--rm", container, BASE, within=600)


def _run(command: list[str], within: float) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=within,
        env=os.environ | {"CONTAINERS_REGISTRIES_CONF": str(STORE / "registries.conf")},
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done
