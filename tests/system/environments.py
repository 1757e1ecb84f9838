"""Makes a virtual environment for each third-party application: its pinned packages, and asgid from this checkout.

An environment is made at its first use and kept below `.cache/`. Its name changes with the pins, with the dependencies
of asgid, and with the Python. pip resolves all packages together, so it fails if a dependency of asgid does not fit.
"""

import hashlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPLICATIONS = Path(__file__).with_name("applications")
KEPT = ROOT / ".cache" / "applications"


def programs(name: str) -> Path:
    """Return the folder of the programs of `applications/NAME.txt`; skips the test without a package index."""
    pins = APPLICATIONS / f"{name}.txt"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    key = hashlib.sha256(repr((pins.read_text(), project["dependencies"], sys.version)).encode())
    home = KEPT / f"{name}-{key.hexdigest()[:12]}"
    made = home / "made"
    if not made.exists():
        for old in KEPT.glob(f"{name}-*"):
            shutil.rmtree(old)
        _run(sys.executable, "-m", "venv", str(home))
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _run(*pip, "install", "--requirement", str(pins), "--editable", str(ROOT))
        made.touch()
    return home / "bin"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode and ("NewConnectionError" in output or "NameResolutionError" in output):
        pytest.skip(f"no package index: {output[-500:]}")
    assert done.returncode == 0, output[-5000:]
