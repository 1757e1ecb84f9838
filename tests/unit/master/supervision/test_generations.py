"""Old and new configuration: what to bind, keep and close, and what only a restart changes."""

from math import inf

import pytest

from asgid.address import Tcp, Unix, parse
from asgid.board import MAX_WORKERS
from asgid.config import Config
from asgid.config import parse as read
from asgid.errors import UnavailableError
from asgid.master.supervision.generations import Generation, needs_restart, plan, to_bind, to_close, with_passed
from asgid.master.supervision.lifecycle import Plan


def config(*lines: str, binds: tuple[str, ...] = ("127.0.0.1:8000",)) -> Config:
    listens = "".join(f'[[listen]]\nbind = "{bind}"\n' for bind in binds)
    return read("\n".join(['[app]\ntarget = "shop:application"', *lines, listens]), "asgid.toml")


def test_a_plan_holds_what_the_supervisor_needs():
    """The settings in seconds, under the supervisor's names."""
    settings = config(
        "[workers]\ncount = 3",
        "[reload]\nsurge = 2\nsettle = '500ms'",
        "[timeouts]\nboot = '1m'\nheartbeat = '20s'\nblocked = '3s'\ngraceful = '10s'\nkill = '4s'",
    )

    assert plan(7, settings, cpus=16) == Plan(7, 3, 2, 0.5, 60.0, 20.0, 3.0, 10.0, 4.0)


def test_auto_is_as_many_workers_as_processors():
    """What `cpus` says, and nothing else; but no more than a file may want."""
    assert plan(1, config(), cpus=6).wanted == 6
    assert plan(1, config(), cpus=768).wanted == MAX_WORKERS


@pytest.mark.parametrize(
    ("heartbeat", "blocked", "expected"), [("10s", "2s", 2.0), ("2s", "2s", inf), ("1s", "2s", inf), ("off", "2s", 2.0)]
)
def test_no_stack_is_asked_for_after_the_worker_was_given_up(heartbeat, blocked, expected):
    """ABRT shows every stack by then."""
    settings = config(f"[timeouts]\nheartbeat = '{heartbeat}'\nblocked = '{blocked}'")

    assert plan(1, settings, cpus=1).blocked == expected


def test_a_generation_knows_its_addresses_in_the_order_of_the_file():
    """However they are written, they are values."""
    generation = Generation(1, config(binds=("unix:/run/shop.sock", "127.0.0.1:8000")))

    assert generation.addresses == (Unix("/run/shop.sock"), Tcp("127.0.0.1", 8000))


def test_only_new_addresses_are_bound():
    """One that is held is kept, whatever else in its table changed: its queue may hold somebody."""
    new = config(binds=("127.0.0.1:8000", "127.0.0.1:8001"))

    assert [listen.bind for listen in to_bind(new, {parse("127.0.0.1:8000")})] == ["127.0.0.1:8001"]
    assert to_bind(new, {parse("127.0.0.1:8000"), parse("127.0.0.1:8001")}) == []


def test_an_address_is_closed_when_no_generation_uses_it():
    """One that any of them uses stays."""
    held = [parse(f"127.0.0.1:{port}") for port in (8000, 8001, 8002)]
    old = Generation(1, config(binds=("127.0.0.1:8000", "127.0.0.1:8001")))
    new = Generation(2, config(binds=("127.0.0.1:8001",)))

    assert to_close(held, [old, new]) == [parse("127.0.0.1:8002")]
    assert to_close(held, [new]) == [parse("127.0.0.1:8000"), parse("127.0.0.1:8002")]
    assert to_close(held, []) == held


@pytest.mark.parametrize(
    ("lines", "keys"),
    [
        ("", []),
        ("[process]\nname = 'shop'", ["process"]),
        ("[process]\npid_file = '/run/shop.pid'", ["process"]),
        ("[metrics]\nenabled = false", ["metrics"]),
        ("[metrics]\nbind = '127.0.0.1:9999'", ["metrics"]),
        ("[process]\nname = 'shop'\n[metrics]\nbind = '127.0.0.1:9999'", ["process", "metrics"]),
        ("[timeouts]\nboot = '1s'\n[workers]\ncount = 9\n[log]\nlevel = 'debug'", []),
    ],
)
def test_what_only_a_restart_changes_is_named(lines, keys):
    """Everything else a reload changes."""
    assert needs_restart(config(), config(lines)) == keys


PASSED = {"admin": [3], "http": [4, 5]}


def test_systemds_sockets_are_taken_where_nothing_is_said_of_where_to_listen():
    """A written address is one that was said, also where it is the default."""
    silent = with_passed(config(binds=()), PASSED)

    assert ["systemd:admin", "systemd:http"] == [listen.bind for listen in silent.listen]
    assert config(binds=()) == with_passed(config(binds=()), {})
    with pytest.raises(UnavailableError, match="nothing listens on systemd:admin, systemd:http, which systemd passed"):
        with_passed(config(), PASSED)


@pytest.mark.parametrize("binds", [("systemd:admin", "systemd:http", ":80"), ("fd:3", "systemd:http")])
def test_systemds_sockets_may_be_called_by_name_or_by_number(binds):
    """Nothing is added to what was said."""
    assert config(binds=binds) == with_passed(config(binds=binds), PASSED)


@pytest.mark.parametrize("binds", [("systemd:http",), ("systemd:http", ":80"), ("systemd:http", "fd:4")])
def test_one_of_systemds_sockets_that_is_left_out_is_named(binds):
    """Its clients would wait until they give up, and no log would say why."""
    with pytest.raises(UnavailableError, match="nothing listens on systemd:admin, which"):
        with_passed(config(binds=binds), PASSED)
