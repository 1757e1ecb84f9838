"""Old and new configuration: which addresses to bind, keep and close, and which tables need a restart."""

from math import inf

import pytest

from asgid.address import Tcp, Unix, parse
from asgid.board import MAX_WORKERS
from asgid.config import Config
from asgid.config import parse as read
from asgid.errors import UnavailableError
from asgid.master.supervision.generations import (
    Generation,
    addresses_to_close,
    listeners_to_bind,
    make_plan,
    tables_that_need_restart,
    with_systemd_sockets,
)
from asgid.master.supervision.lifecycle import Plan


def config(*lines: str, binds: tuple[str, ...] = ("127.0.0.1:8000",)) -> Config:
    listens = "".join(f'[[listen]]\nbind = "{bind}"\n' for bind in binds)
    return read("\n".join(['[app]\ntarget = "shop:application"', *lines, listens]), "asgid.toml")


def test_a_plan_holds_the_settings_of_the_supervisor():
    settings = config(
        "[workers]\ncount = 3",
        "[reload]\nsurge = 2\nsettle = '500ms'",
        "[timeouts]\nboot = '1m'\nheartbeat = '20s'\nblocked = '3s'\ngraceful = '10s'\nkill = '4s'",
    )

    assert make_plan(7, settings, cpus=16) == Plan(7, 3, 2, 0.5, 60.0, 20.0, 3.0, 10.0, 4.0)


def test_auto_wants_one_worker_for_each_processor():
    assert make_plan(1, config(), cpus=6).wanted == 6
    assert make_plan(1, config(), cpus=768).wanted == MAX_WORKERS


@pytest.mark.parametrize(
    ("heartbeat", "blocked", "expected"), [("10s", "2s", 2.0), ("2s", "2s", inf), ("1s", "2s", inf), ("off", "2s", 2.0)]
)
def test_no_stack_is_requested_when_the_worker_is_aborted_first(heartbeat, blocked, expected):
    """ABRT shows every stack by then."""
    settings = config(f"[timeouts]\nheartbeat = '{heartbeat}'\nblocked = '{blocked}'")

    assert make_plan(1, settings, cpus=1).blocked == expected


def test_a_generation_has_its_addresses_in_the_order_of_the_file():
    generation = Generation(1, config(binds=("unix:/run/shop.sock", "127.0.0.1:8000")))

    assert generation.addresses == (Unix("/run/shop.sock"), Tcp("127.0.0.1", 8000))


def test_only_new_addresses_are_bound():
    """A bound one is kept, whatever else in its table changed: clients may be in its queue."""
    new = config(binds=("127.0.0.1:8000", "127.0.0.1:8001"))

    assert [listen.bind for listen in listeners_to_bind(new, {parse("127.0.0.1:8000")})] == ["127.0.0.1:8001"]
    assert listeners_to_bind(new, {parse("127.0.0.1:8000"), parse("127.0.0.1:8001")}) == []


def test_an_address_is_closed_when_no_generation_uses_it():
    bound = [parse(f"127.0.0.1:{port}") for port in (8000, 8001, 8002)]
    old = Generation(1, config(binds=("127.0.0.1:8000", "127.0.0.1:8001")))
    new = Generation(2, config(binds=("127.0.0.1:8001",)))

    assert addresses_to_close(bound, [old, new]) == [parse("127.0.0.1:8002")]
    assert addresses_to_close(bound, [new]) == [parse("127.0.0.1:8000"), parse("127.0.0.1:8002")]
    assert addresses_to_close(bound, []) == bound


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
def test_the_tables_that_only_a_restart_changes_are_named(lines, keys):
    assert tables_that_need_restart(config(), config(lines)) == keys


PASSED = {"admin": [3], "http": [4, 5]}


def test_without_a_listen_table_all_sockets_of_systemd_are_used():
    """An address that is written counts, even if it is the default."""
    completed = with_systemd_sockets(config(binds=()), PASSED)

    assert ["systemd:admin", "systemd:http"] == [listen.bind for listen in completed.listen]
    assert config(binds=()) == with_systemd_sockets(config(binds=()), {})
    with pytest.raises(UnavailableError, match="nothing listens on systemd:admin, systemd:http, which systemd passed"):
        with_systemd_sockets(config(), PASSED)


@pytest.mark.parametrize("binds", [("systemd:admin", "systemd:http", ":80"), ("fd:3", "systemd:http")])
def test_a_socket_of_systemd_may_be_written_by_name_or_by_number(binds):
    assert config(binds=binds) == with_systemd_sockets(config(binds=binds), PASSED)


@pytest.mark.parametrize("binds", [("systemd:http",), ("systemd:http", ":80"), ("systemd:http", "fd:4")])
def test_a_socket_of_systemd_that_is_omitted_is_named(binds):
    """Its clients would wait until they give up, and no log line would show the reason."""
    with pytest.raises(UnavailableError, match="nothing listens on systemd:admin, which"):
        with_systemd_sockets(config(binds=binds), PASSED)
