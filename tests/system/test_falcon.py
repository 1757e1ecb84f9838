"""Falcon's tests of ASGI servers, from its source release, with asgid in the place of uvicorn."""

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

#: In its tests a server is `python -m uvicorn --host HOST --port PORT --interface asgi3 TARGET`.
STAND_IN = """
import os, sys

if __name__ == "__main__":
    words = sys.argv[1:]
    host, port = (words[words.index(option) + 1] for option in ("--host", "--port"))
    options = ["-b", f"{host}:{port}", "-w", "1", "--set", "metrics.enabled=false"]
    os.execv(sys.executable, [sys.executable, "-m", "asgid", words[-1], *options])
"""

#: Tests that expect another result. If an application accepts a subprotocol that the client has not offered, asgid
#: raises in the application, and Falcon answers 403. RFC 6455 section 4.2.2 forbids sending it; the servers that Falcon
#: tests send it or break the connection.
OTHERWISE = {"TestWebSocket::test_select_subprotocol_unknown"}


def pip(*arguments: str) -> None:
    """Run pip; skips the test if the package index cannot be reached."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"pip {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")


@pytest.mark.timeout(1800)
def test_asgid_passes_the_server_tests_of_falcon(tmp_path: Path) -> None:
    """Requests, uploads, server-sent events, files and WebSockets: all tests that Falcon runs with uvicorn."""
    pip("download", "--no-deps", "--no-binary", "falcon", "--dest", str(tmp_path), f"falcon=={version('falcon')}")
    pip("install", "--target", str(tmp_path / "site"), "requests")  # Falcon skips these tests without it
    with tarfile.open(next(tmp_path.glob("falcon-*.tar.gz"))) as release:
        release.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("falcon-*/")
    (tmp_path / "site" / "uvicorn.py").write_text(STAND_IN)

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rA",
            "--timeout=60",
            "-k",
            "uvicorn",
            "tests/asgi/test_asgi_servers.py",
        ],
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )

    print(done.stdout)
    verdicts = re.findall(r"^(PASSED|FAILED|ERROR) \S+\.py::(\w+::\w+)", done.stdout, re.MULTILINE)
    assert len(verdicts) > 40
    assert OTHERWISE == {name for verdict, name in verdicts if verdict != "PASSED"}
