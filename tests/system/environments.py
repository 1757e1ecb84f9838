"""Makes a virtual environment for a third-party application or an agent: its pinned packages, perhaps with asgid.

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
KEPT = ROOT / ".cache" / "environments"


def programs(name: str) -> Path:
    """Return the folder of the programs of `applications/NAME.txt`, with asgid from this checkout."""
    return programs_of(APPLICATIONS / f"{name}.txt", "--editable", str(ROOT))


def programs_of(pins: Path, *options: str) -> Path:
    """Return the folder of the programs of a file of pins; skips the test without a package index."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    key = hashlib.sha256(repr((pins.read_text(), project["dependencies"], sys.version)).encode())
    home = KEPT / f"{pins.stem}-{key.hexdigest()[:12]}"
    made = home / "made"
    if not made.exists():
        for old in KEPT.glob(f"{pins.stem}-*"):
            shutil.rmtree(old)
        _run(sys.executable, "-m", "venv", str(home))
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _run(*pip, "install", "--requirement", str(pins), *options)
        made.touch()
    return home / "bin"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode and ("NewConnectionError" in output or "NameResolutionError" in output):
        pytest.skip(f"no package index: {output[-500:]}")
    assert done.returncode == 0, output[-5000:]
