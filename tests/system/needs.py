"""Finds the programs that system tests need and pip lacks, names their Debian packages, and skips a test without one.

`python -m tests.system.needs`, the first step of `make system`, installs the missing packages as root on a Debian. Into
`.cache/` it installs the Autobahn test suite, if it finds a Python 2.7, and a Debian to boot.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"]
)  # the PATH of a user may lack these

#: Program or file -> its package.
PACKAGES = {
    "chromium": "chromium",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",  # a browser without a font shows no text
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "nginx": "nginx",
    "/usr/lib/nginx/modules/ngx_stream_module.so": "libnginx-mod-stream",
    "haproxy": "haproxy",
    "mmdebstrap": "mmdebstrap",
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
}

#: A small Debian 12 for a container that boots systemd 252, the oldest version that the units support. The second line
#: has the libraries that the interpreter outside is linked to.
TREE = ROOT / ".cache" / "bookworm"
TREE_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "curl", "procps", "logrotate"),
    *("ca-certificates", "netbase", "libsqlite3-0", "libffi8", "liblzma5", "libbz2-1.0", "zlib1g", "libexpat1"),
)

AUTOBAHN = ROOT / ".cache" / "autobahn"
#: The suite with its dependencies, so that a run next year gives the same result. Its next release, 25.10.1, also fails
#: at its first import on Python 3.
AUTOBAHN_PINS = ROOT / "tests" / "system" / "autobahn.txt"
POLICY = Path("/usr/sbin/policy-rc.d")


def found(name: str) -> str | None:
    """Return the path of a program or file, or None."""
    if name.startswith("/"):
        return name if Path(name).exists() else None
    return shutil.which(name, path=PATH)


def program(name: str) -> str:
    """Return the path of a program or file of PACKAGES; skips the test if it is missing."""
    path = found(name)
    if path is None:
        pytest.skip(f"{name} is missing: apt-get install {PACKAGES[name]}, or run `make system` as root")
    return path


def autobahn() -> tuple[list[str], dict[str, str]]:
    """Return Autobahn's `wstest` as a command, and the variables that it needs; skips the test without it."""
    python = python2()
    if python is None:
        pytest.skip("no python2.7 on PATH or in pyenv, and Autobahn runs on no other: pyenv install 2.7.18")
    wstest = AUTOBAHN / "bin" / "wstest"
    if not wstest.exists():
        pytest.skip(f"{wstest} is missing: `make system` installs it")
    return [python, str(wstest)], {"PYTHONUSERBASE": str(AUTOBAHN)}


def tree() -> Path:
    """Return a Debian that can be booted; skips the test if none exists or this user cannot boot it."""
    if os.geteuid() != 0:
        pytest.skip("not root, and only root boots a container: sudo make system")
    for name in ("systemd-nspawn", "nsenter"):
        program(name)
    if not TREE.exists():
        pytest.skip(f"{TREE} is missing: `make system` makes it, with mmdebstrap")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("not permitted to mount: this root is one of a container; run `make system` on the machine itself")
    return TREE


def python2() -> str | None:
    """Return a Python 2.7 that runs, from PATH or from pyenv; on PATH it may be a shim that only fails."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in [found("python2.7"), *sorted(map(str, versions.glob("2.7*/bin/python2.7")))]:
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def main() -> None:
    """Install the missing programs as far as this machine allows."""
    packages = sorted({package for name, package in PACKAGES.items() if not found(name)})
    if packages and os.geteuid() == 0 and found("apt-get"):
        with _without_service_starts():
            _run(["apt-get", "update", "-qq"])
            _run(["apt-get", "install", "-qq", "--no-install-recommends", *packages])
    elif packages:
        print(f"not root on a Debian, so these stay missing: {' '.join(packages)}")
    python = python2()
    if python and not (AUTOBAHN / "bin" / "wstest").exists():
        # --user, not --target: some of its packages need the .pth files that only a site directory has.
        pip = [python, "-m", "pip", "install", "--quiet", "--user", "--no-warn-script-location"]
        _run([*pip, "--requirement", str(AUTOBAHN_PINS)], PYTHONUSERBASE=str(AUTOBAHN))
    if os.geteuid() == 0 and found("mmdebstrap") and not TREE.exists():
        fresh = TREE.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        TREE.parent.mkdir(exist_ok=True)
        slim = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")]
        include = f"--include={','.join(TREE_PACKAGES)}"
        if _run(["mmdebstrap", "--quiet", "--variant=minbase", *slim, include, "bookworm", str(fresh)]):
            fresh.rename(TREE)


@contextmanager
def _without_service_starts() -> Iterator[None]:
    """Prevent Debian from starting the services that it installs: the tests have their own settings and ports."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _run(command: list[str], **environment: str) -> bool:
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=os.environ | quiet | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    main()
