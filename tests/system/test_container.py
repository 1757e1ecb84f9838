"""The unchanged Dockerfile, built and run: its user, its read-only file system, and the signals to PID 1."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import eventually
from tests.system.containers import Engine

ROOT = Path(__file__).parents[2]
TAG = "localhost/asgid:test"
pytestmark = pytest.mark.timeout(1800)  # the first test builds the image
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"


class Container:
    """A container that runs the image without a capability, without a network and with a read-only root."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.number = engine.run(TAG, "--network=none", "--read-only", "--cap-drop=ALL")

    def do(self, *command: str) -> str:
        return self.engine.podman("exec", self.number, *command)

    def get(self, url: str) -> str:
        return self.do("python", "-c", ASK, url)

    def generation(self) -> int:
        return int(json.loads(self.get("http://127.0.0.1:9464/status"))["generation"])

    def is_healthy(self) -> bool:
        """Return whether the HEALTHCHECK of the image succeeds."""
        try:
            self.engine.podman("healthcheck", "run", self.number)
        except AssertionError:
            return False
        return True


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        engine.build(TAG, ROOT)
        yield engine
    finally:
        engine.close()


@pytest.fixture
def container(engine: Engine) -> Iterator[Container]:
    container = Container(engine)
    try:
        eventually(container.is_healthy, within=90)
        yield container
    finally:
        engine.podman("rm", "--force", "--time=2", container.number)


def test_the_image_serves_as_an_unprivileged_user(container: Container) -> None:
    status = dict(line.split(":\t", 1) for line in container.do("cat", "/proc/1/status").splitlines())

    assert "Hello" in container.get("http://127.0.0.1:8000/")
    assert "10001\t10001\t10001\t10001" == status["Uid"] == status["Gid"]
    assert {0} == {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")}
    assert "ready" in container.get("http://127.0.0.1:9464/status")


def test_hup_to_pid_1_reloads(container: Container) -> None:
    """The signal of `docker kill --signal HUP`."""
    assert container.generation() == 1
    container.engine.podman("kill", "--signal=HUP", container.number)

    eventually(lambda: container.generation() == 2)
    assert container.is_healthy()


def test_a_stop_ends_within_the_time_limit_of_docker(container: Container) -> None:
    """TERM, a drain and exit code 0; the log is JSON and has both events."""
    container.engine.podman("stop", "--time=10", container.number)
    events = [json.loads(line)["event"] for line in container.engine.stderr_of(container.number).splitlines()]
    state = json.loads(container.engine.podman("inspect", "--format", "{{json .State}}", container.number))

    assert (0, "exited") == (state["ExitCode"], state["Status"])
    assert ["stopping", "stopped"] == [event for event in events if event in ("stopping", "stopped")]
