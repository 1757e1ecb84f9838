"""The units of systemd/ under a real systemd, hardening included: ready, reload, upgrade, watchdog, socket, stop.

asgid comes from this checkout and runs with this Python. Both are mounted below /opt, because the unit has no access to
/home and /tmp.
"""

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import eventually
from tests.system import documents, needs
from tests.system.box import Box

pytestmark = pytest.mark.timeout(900)  # the first test boots the box

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
PYTHON = "/opt/python/bin/python3"
ASGID = "/opt/myapp/bin/asgid"

#: The drop-in for an asgid in another place, with timeouts that suit a test.
DROP_IN = f"""\
[Service]
Environment=PYTHONPATH=/opt/asgid:/opt/packages LD_LIBRARY_PATH=/opt/python/lib PYTHONDONTWRITEBYTECODE=1
ExecStart=
ExecStart={PYTHON} -m asgid -c /etc/asgid.toml
WatchdogSec=10s
TimeoutAbortSec=30s
RestartSec=100ms
"""
SETTINGS = """\
[app]
target = "pid:application"
directory = "/opt/apps"
[[listen]]
bind = "{bind}"
[workers]
count = 2
[timeouts]
graceful = "3s"
kill = "4s"
[reload]
settle = "100ms"
"""


class Service:
    """asgid.service in a box."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def systemctl(self, *arguments: str) -> None:
        done = self.box.do("systemctl", *arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}\n{self.journal()}"

    def show(self, name: str) -> str:
        return self.box.do("systemctl", "show", "asgid.service", "--property", name, "--value").stdout.strip()

    def configure(self, text: str) -> None:
        """Write /etc/asgid.toml."""
        self.box.do("sh", "-c", 'printf %s "$1" > /etc/asgid.toml', "sh", text)

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.box.do("curl", "-sS", "http://127.0.0.1:9464/status").stdout)
        return answer

    def get(self) -> str:
        """Return the answer on port 8000, or "" if none comes."""
        return self.box.do("curl", "-sS", "--max-time", "20", "http://127.0.0.1:8000/").stdout

    def journal(self) -> str:
        return self.box.do("journalctl", "--unit", "asgid.service", "--output", "cat").stdout


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    directory = tmp_path_factory.mktemp("box")
    drop_in = directory / "test.conf"
    drop_in.write_text(DROP_IN)
    files = {
        "/etc/systemd/system/asgid.service": UNITS / "asgid.service",
        "/etc/systemd/system/asgid.socket": UNITS / "asgid.socket",
        "/etc/systemd/system/asgid.service.d/test.conf": drop_in,
        "/opt/python": Path(sys.base_prefix),
        "/opt/packages": Path(sysconfig.get_path("platlib")),
        "/opt/asgid/asgid": ROOT / "asgid",
        "/opt/apps": ROOT / "tests" / "apps",
    }
    with Box(needs.tree(), f"asgid-{os.getpid()}", files, directory) as box:
        yield box


@pytest.fixture
def service(box: Box) -> Iterator[Service]:
    """A started service."""
    service = Service(box)
    service.configure(SETTINGS.format(bind="127.0.0.1:8000"))
    service.systemctl("start", "asgid.service")
    yield service
    box.do("systemctl", "stop", "asgid.socket", "asgid.service")
    box.do("systemctl", "reset-failed")


def test_systemd_finds_nothing_wrong_with_the_units() -> None:
    """`systemd-analyze verify` prints nothing; its exit code is 0 even with warnings, so it is not enough."""
    verified = subprocess.run(
        [needs.program("systemd-analyze"), "verify", UNITS / "asgid.socket"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    complaints = [
        line for line in verified.stderr.splitlines() if "is not executable" not in line
    ]  # asgid is not installed here

    assert [] == complaints


#: The asgid of this checkout, in the place of the environment that the guide makes with pip.
PROGRAM = f"""\
#!/bin/sh
export PYTHONPATH=/opt/checkout:/opt/packages LD_LIBRARY_PATH=/opt/python/lib PYTHONDONTWRITEBYTECODE=1
exec {PYTHON} -m asgid "$@"
"""


def test_the_guide_installs_a_service_that_serves(tmp_path: Path) -> None:
    """Its commands run unchanged, except those of pip, which need a network."""
    files = {
        "/opt/python": Path(sys.base_prefix),
        "/opt/packages": Path(sysconfig.get_path("platlib")),
        **{f"/opt/checkout/{name}": ROOT / name for name in ("asgid", "examples", "systemd")},
    }
    with Box(needs.tree(), f"asgid-guide-{os.getpid()}", files, tmp_path) as box:
        created = box.do(
            "sh", "-c", 'mkdir -p /opt/myapp/bin; printf %s "$1" > "$2"; chmod 755 "$2"', "sh", PROGRAM, ASGID
        )
        done = box.do("sh", "-ec", f"cd /opt/checkout/systemd\n{documents.installation()}")

        assert (created.returncode, done.returncode) == (0, 0), done.stderr
        assert "/etc/asgid.toml: ok, boots as asgi3" in done.stdout
        assert "Hello from asgid" in done.stdout
        assert box.do("systemctl", "is-active", "asgid.service").stdout.strip() == "active"


def test_the_log_is_rotated_as_documented(service: Service) -> None:
    """By logrotate, with the user of DynamicUser=, which has no fixed name for `create`."""
    if service.box.do("sh", "-c", "command -v logrotate").returncode:
        pytest.skip(f"no logrotate in {needs.TREE}: remove that, and `make system` makes it again")
    unit = "/etc/systemd/system/asgid.service.d/logs.conf"
    rules = documents.block("/var/log/asgid/", {})
    service.box.do("sh", "-c", 'printf "[Service]\nLogsDirectory=asgid\n" > "$1"', "sh", unit)
    service.box.do("sh", "-c", 'printf %s "$1" > /etc/logrotate.d/asgid', "sh", rules)
    service.configure(SETTINGS.format(bind="127.0.0.1:8000") + '[log]\noutput = "/var/log/asgid/asgid.log"\n')
    service.systemctl("daemon-reload")
    service.systemctl("restart", "asgid.service")

    rotated = service.box.do("logrotate", "--force", "/etc/logrotate.d/asgid")
    fresh = eventually(lambda: service.box.do("cat", "/var/log/asgid/asgid.log").stdout)
    service.box.do("rm", unit, "/etc/logrotate.d/asgid")
    service.systemctl("daemon-reload")

    assert rotated.returncode == 0, rotated.stderr
    assert '"log files reopened"' in fresh
    assert '"worker ready"' in service.box.do("cat", "/var/log/asgid/asgid.log.1").stdout


def test_a_start_ends_when_the_service_answers(service: Service) -> None:
    assert service.get().isdigit()
    assert ("active", "running") == (service.show("ActiveState"), service.show("SubState"))
    assert int(service.box.do("stat", "--format=%u", f"/proc/{service.show('MainPID')}").stdout) >= 61184
    assert "generation 1" in service.show("StatusText")
    assert service.box.do("systemctl", "is-failed", "asgid.service").stdout.strip() == "active"


def test_systemd_shows_the_verdict_of_a_reload(service: Service) -> None:
    """systemd shows the reason of a refused reload, and the service continues after it as after a committed one."""
    service.systemctl("reload", "asgid.service")
    eventually(lambda: service.status()["generation"] == 2 and service.show("ActiveState") == "active")
    service.configure("[app]\ntarget = 'pid:application'\ncolour = 1\n")
    service.systemctl("reload", "asgid.service")
    eventually(lambda: "/etc/asgid.toml:3: app.colour" in service.show("StatusText"))
    eventually(lambda: service.show("ActiveState") == "active")

    assert service.status()["generation"] == 2
    assert service.get().isdigit()


def test_an_upgrade_keeps_the_main_process(service: Service) -> None:
    """USR2 replaces the program under the same pid, and systemd does not count a restart."""
    before = service.show("MainPID")
    service.systemctl("kill", "--kill-whom=main", "--signal=USR2", "asgid.service")
    eventually(lambda: "program replaced" in service.journal())
    eventually(lambda: service.status()["generation"] == 2 and service.show("ActiveState") == "active")

    assert (before, "0") == (service.show("MainPID"), service.show("NRestarts"))
    assert service.get().isdigit()


def test_a_master_that_hangs_leaves_its_stack_and_is_restarted(service: Service) -> None:
    """The watchdog sends ABRT, the journal has the stack, and the service starts again."""
    before = service.show("MainPID")
    service.systemctl("kill", "--kill-whom=main", "--signal=STOP", "asgid.service")
    eventually(lambda: service.show("NRestarts") == "1" and service.show("ActiveState") == "active", within=90)

    assert before != service.show("MainPID")
    assert "Watchdog timeout" in service.journal()
    assert "Fatal Python error: Aborted" in service.journal()
    assert service.get().isdigit()


def test_a_stop_is_clean(service: Service) -> None:
    service.systemctl("stop", "asgid.service")

    assert ("inactive", "success", "0") == tuple(map(service.show, ("ActiveState", "Result", "ExecMainStatus")))
    assert service.get() == ""


def test_timeouts_of_asgid_extend_those_of_the_unit(service: Service) -> None:
    """The master requests the time for a boot and a drain, within six seconds of its start."""
    short = "/run/systemd/system/asgid.service.d"
    service.box.do("mkdir", "-p", short)
    service.box.do("sh", "-c", f"printf '[Service]\\nTimeoutStartSec=6s\\nTimeoutStopSec=6s\\n' > {short}/short.conf")
    service.systemctl("daemon-reload")
    try:
        assert service.show("TimeoutStopUSec") == "6s"

        settings = SETTINGS.format(bind="127.0.0.1:8000").replace('graceful = "3s"', 'graceful = "9s"')
        service.configure(settings.replace("pid:", "slow_boot:") + '[app.env]\nSLOW_BOOT_S = "9"\n')
        service.systemctl("restart", "asgid.service")

        assert service.get().isdigit()

        service.configure(settings.replace("pid:", "waits:"))
        service.systemctl("reload", "asgid.service")
        eventually(lambda: service.status()["generation"] == 2)
        service.box.do("sh", "-c", "curl -sS http://127.0.0.1:8000/ > /dev/null 2>&1 &")
        eventually(lambda: any(worker["requests"] for worker in service.status()["workers"]))
        begun = time.monotonic()
        service.systemctl("stop", "asgid.service")

        assert time.monotonic() - begun > 7
        assert ("success", "0") == tuple(map(service.show, ("Result", "ExecMainStatus")))
    finally:
        service.box.do("rm", "-r", short)
        service.systemctl("daemon-reload")


def test_connections_wait_in_the_socket_during_a_restart(box: Box) -> None:
    """The first connection starts the service; each later one is answered, also during a restart."""
    service = Service(box)
    service.configure(SETTINGS.format(bind="systemd:http"))
    try:
        service.systemctl("start", "asgid.socket")
        assert service.show("ActiveState") == "inactive"
        assert service.get().isdigit()
        assert service.show("ActiveState") == "active"
        ask = "while [ ! -e /run/enough ]; do curl -sS --max-time 60 http://127.0.0.1:8000/ && echo; done"
        box.do("sh", "-c", f"({ask}) > /run/answers 2>&1 &")

        def answers() -> list[str]:
            return box.do("cat", "/run/answers").stdout.split("\n")[:-1]

        for _ in range(2):
            known = len(answers())
            eventually(lambda: len(answers()) > known + 10)  # noqa: B023 - asked within this turn
            service.systemctl("restart", "asgid.service")
        known = len(answers())
        eventually(lambda: len(answers()) > known + 10)
        box.do("touch", "/run/enough")

        assert all(map(str.isdigit, answers()))
        assert len(set(answers())) > 2
    finally:
        box.do("systemctl", "stop", "asgid.socket", "asgid.service")
