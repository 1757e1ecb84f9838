"""Listening sockets are bound, adopted, refreshed and closed as the kernel sees it; what is not ours is not touched."""

import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from asgid.config import Listen
from asgid.errors import UnavailableError
from asgid.master.listeners import Listeners
from asgid.master.net.bound_socket import BoundSocket
from asgid.master.net.listener_state import ListenerState
from tests.rights import without_rights


class _Door(Listeners):
    """Listeners that are closed with the test."""

    def one(self, bind: str, **settings: object) -> BoundSocket:
        """Open this address and return it."""
        (held,) = self.open([Listen.model_validate({"bind": bind, **settings})])
        return held


@pytest.fixture
def door() -> Iterator[_Door]:
    door = _Door({})
    yield door
    door.close(door.addresses)


def accepts(held: BoundSocket) -> bool:
    """Whether a client that connects to the socket's own address waits in its queue."""
    family, name = held.socket.family, held.socket.getsockname()
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(name)
        with held.socket.accept()[0] as accepted:
            return bool(accepted)


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def listens(*binds: str) -> Iterable[Listen]:
    return [Listen(bind=bind) for bind in binds]


# TCP


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine knows of itself; every other name would be asked for."""
    file = tmp_path / "hosts"
    file.write_text("# 127.0.0.1 old.internal\n127.0.0.1 localhost here # there\n\n::1\tlocalhost6\n")
    monkeypatch.setattr("asgid.master.net.tcp_sockets.HOSTS", str(file))

    def answers(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        assert host in ("127.0.0.1", "localhost", "here"), "a name server is asked"
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", answers)


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "localhost:0", "here:0", ":0", "unix:@asgid-reload"])
def test_a_number_or_a_name_of_the_hosts_file_needs_no_name_server(door, bind):
    """A number, or a name in /etc/hosts."""
    assert len(door.open(listens(bind), may_wait=False)) == 1


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("name", ["app.internal", "old.internal", "there"])
def test_a_name_that_only_a_name_server_knows_is_refused_in_a_reload(door, name):
    """Nothing is asked, what was bound before is closed, and the message says what to write."""
    with pytest.raises(UnavailableError, match=f"{name}:80: a reload asks no name server; write its number"):
        door.open(listens("127.0.0.1:0", f"{name}:80"), may_wait=False)

    assert not door.addresses


def test_the_local_address_has_the_port_that_the_kernel_chose(door):
    """`bound` is where a client gets through."""
    held = door.one("127.0.0.1:0")
    port = held.socket.getsockname()[1]

    assert port > 0
    assert held.local_address == f"127.0.0.1:{port}"
    assert held.name == "127.0.0.1:0"
    assert accepts(held)
    assert not held.socket.getblocking()
    assert not held.socket.get_inheritable()


def test_ipv6_is_ipv6_only(door):
    """`[::1]` says one address, and leaves the IPv4 port of the same number to others."""
    if not _has_ipv6():
        pytest.skip("this machine has no ::1")
    held = door.one("[::1]:0")

    assert held.local_address == f"[::1]:{held.socket.getsockname()[1]}"
    assert held.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert accepts(held)


def test_an_address_without_a_host_is_every_interface(door):
    """IPv4 always; IPv6 too where the machine has it."""
    held = door.one(":0")
    port = held.socket.getsockname()[1]
    hosts = ["127.0.0.1", "::1"] if _has_ipv6() else ["127.0.0.1"]
    for host in hosts:
        with socket.create_connection((host, port), 5), held.socket.accept()[0] as accepted:
            assert accepted


def test_a_name_is_resolved(door):
    """`localhost` is whatever the machine says it is."""
    assert all(accepts(held) for held in door.open(listens("localhost:0")))


def name_means(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Have every name stand for these addresses, each twice, as getaddrinfo(3) may return them."""

    def answers(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        found = [host] if host[0].isdigit() or ":" in host else hosts
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 0, "", (each, port, 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port))
            for each in found
            for _ in range(2)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answers)


def test_a_name_with_several_addresses_is_bound_at_all_of_them(door, monkeypatch):
    """Debian and Docker write ::1 first: a client of 127.0.0.1 would find no server. The port is the same."""
    if not _has_ipv6():
        pytest.skip("this machine has no ::1")
    name_means(monkeypatch, "::1", "127.0.0.1")
    held = door.open(listens("localhost:0"))
    (port,) = {each.socket.getsockname()[1] for each in held}

    assert [each.local_address for each in held] == [f"[::1]:{port}", f"127.0.0.1:{port}"]
    assert {each.name for each in held} == {"localhost:0"}
    assert all(map(accepts, held))
    assert len(door.for_worker(listens("localhost:0"))) == 2


def test_an_address_that_this_machine_does_not_have_is_left_out(door, monkeypatch):
    """A file of hosts names ::1 where there is no IPv6, and a name server all machines of a name."""
    name_means(monkeypatch, "198.51.100.1", "127.0.0.1")
    (held,) = door.open(listens("localhost:0"))

    assert held.local_address.startswith("127.0.0.1:")

    name_means(monkeypatch, "198.51.100.1", "203.0.113.2")
    with pytest.raises(UnavailableError, match="cannot listen on shop:0: this machine has no such address"):
        door.open(listens("shop:0"))


def test_a_socket_is_shared_by_its_old_and_its_new_name(door, monkeypatch):
    """A reload from 127.0.0.1:P to localhost:P: no connection in the queue is lost, whichever of them is closed."""
    name_means(monkeypatch, "127.0.0.1")
    first = door.one("127.0.0.1:0")
    port = first.socket.getsockname()[1]
    (second,) = door.open(listens(f"localhost:{port}"))
    with socket.create_connection(("127.0.0.1", port), 5):
        door.close([first.address])

        assert second.local_address == f"127.0.0.1:{port}"
        assert second.name == f"localhost:{port}"
        with second.socket.accept()[0] as accepted:
            assert accepted
    assert accepts(second)


@pytest.mark.parametrize(("held", "wanted"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1")])
def test_if_asgid_itself_has_the_port_the_message_names_its_listener(door, held, wanted):
    """`ss` would show the operator the very process that was asked; the kernel has no way from one to the other."""
    first = door.one(f"{held}:0")
    port = first.socket.getsockname()[1]
    with pytest.raises(UnavailableError) as info:
        door.open(listens(f"{wanted}:{port}"))

    message = str(info.value)
    assert message.startswith(
        f"cannot listen on {wanted}:{port}: asgid itself listens on {first.local_address} (for {held}:0)"
    )
    assert message.endswith("only a restart changes one into the other")


def test_one_address_under_two_names_of_one_configuration_is_refused(door, monkeypatch):
    """Two settings would hold for one connection."""
    name_means(monkeypatch, "127.0.0.1")
    first = door.one("127.0.0.1:0")
    bind = f"localhost:{first.socket.getsockname()[1]}"

    with pytest.raises(
        UnavailableError, match=f"asgid itself listens on {first.local_address}.*; leave one of them out"
    ):
        door.open(listens(bind), kept=[first.address])


def test_the_port_of_another_program_is_not_mistaken_for_that_of_asgid(door):
    """The same port on another address of this machine."""
    first = door.one("127.0.0.1:0")
    port = first.socket.getsockname()[1]
    with socket.create_server(("127.0.0.2", port)), pytest.raises(UnavailableError, match="`ss -lntxp`"):
        door.one(f"127.0.0.2:{port}")


def test_a_port_in_use_is_reported_with_a_command_to_find_the_process(door):
    """The message is all that an operator has."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(UnavailableError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .* `ss -lntxp`"):
            door.one(f"127.0.0.1:{port}")


def test_time_wait_of_the_last_run_does_not_prevent_a_bind(door):
    """A server that closed its connections first leaves them in TIME_WAIT for a minute (ip(7), SO_REUSEADDR)."""
    held = door.one("127.0.0.1:0")
    bound, name = held.local_address, held.socket.getsockname()
    with socket.create_connection(name, 5) as client:
        held.socket.accept()[0].close()
        client.recv(1)
    door.close([held.address])

    assert door.one(bound).local_address == bound


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("192.0.2.1:8000", "this machine has no such address"),
        ("no-such-host.invalid:8000", "cannot listen on no-such-host.invalid:8000: "),
        ("unix:/nonexistent/shop.sock", "the directory does not exist"),
        ("fd:999", "descriptor 999 is not an open socket"),
        ("systemd:http", "systemd passed no socket of that name (it passed none at all)"),
    ],
)
def test_an_address_that_cannot_be_opened_is_reported_and_leaves_nothing_open(door, bind, words):
    """The address and the reason, in words."""
    before = descriptors()

    with pytest.raises(UnavailableError) as caught:
        door.one(bind)

    assert words in str(caught.value)
    assert not door.addresses
    assert descriptors() == before


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory to which every user finds the way; pytest's own are for one."""
    with tempfile.TemporaryDirectory(prefix="asgid-") as name:
        yield Path(name)


def test_a_directory_without_write_permission_is_reported_with_the_user(door, shared: Path):
    """It is not for a port below 1024 that a socket file is denied."""
    shared.chmod(0o555)
    bind = f"unix:{shared}/shop.sock"

    with without_rights(), pytest.raises(UnavailableError) as caught:
        door.one(bind)

    said = rf"cannot listen on {bind}: permission denied; (user|uid) \S+ may not make a file in {shared}"

    assert re.fullmatch(said, str(caught.value))


def test_a_socket_file_of_another_user_is_reported(door, shared: Path):
    """Who may not connect to it cannot find out whether it is in use."""
    shared.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{shared}/shop.sock")
        (shared / "shop.sock").chmod(0)

        with (
            without_rights(),
            pytest.raises(UnavailableError, match=r"permission denied; (user|uid) \S+ may not connect to the"),
        ):
            door.one(f"unix:{shared}/shop.sock")


def test_all_listeners_are_opened_or_none(door, tmp_path: Path):
    """What was opened before the failure is closed again, and its file is gone."""
    first = door.one("127.0.0.1:0")
    file = tmp_path / "shop.sock"
    before = descriptors()

    with pytest.raises(UnavailableError, match=r"192\.0\.2\.1"):
        door.open(listens(f"unix:{file}", "192.0.2.1:8000"))

    assert [first.address] == list(door.addresses)
    assert descriptors() == before
    assert not file.exists()
    assert accepts(first)


# Socket files


@pytest.mark.parametrize("mode", ["0660", "0600", "0666"])
def test_a_socket_file_has_the_mode_of_the_setting(door, tmp_path: Path, mode):
    """Whatever the umask; which is as it was afterwards."""
    old = os.umask(0o027)
    try:
        held = door.one(f"unix:{tmp_path}/shop.sock", mode=mode)

        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "shop.sock").stat().st_mode) == int(mode, 8)
    assert held.local_address == f"unix:{tmp_path}/shop.sock"
    assert accepts(held)


def test_a_socket_file_has_the_owner_and_group_of_the_setting(door, tmp_path: Path):
    """By name, for the user that a proxy runs as."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    door.one(f"unix:{tmp_path}/shop.sock", owner="nobody", group="daemon")
    found = (tmp_path / "shop.sock").stat()

    assert (found.st_uid, found.st_gid) != (0, 0)


@pytest.mark.parametrize(("key", "word"), [("owner", "user"), ("group", "group")])
def test_an_owner_that_does_not_exist_leaves_no_file_behind(door, tmp_path: Path, key, word):
    """Nothing half made stays where the next start would find it."""
    with pytest.raises(UnavailableError, match=rf"listen.{key}: there is no {word} 'no-such-one'"):
        door.one(f"unix:{tmp_path}/shop.sock", **{key: "no-such-one"})

    assert list(tmp_path.iterdir()) == []


def test_the_file_of_an_ended_server_is_replaced(door, tmp_path: Path):
    """Nobody answers a connect to it, which is the proof."""
    file = tmp_path / "shop.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(file))

    assert accepts(door.one(f"unix:{file}"))


@pytest.mark.parametrize("backlog", [5, 0])
def test_the_file_of_a_running_server_is_not_touched(door, tmp_path: Path, backlog):
    """Also when its queue is full, and a connect neither succeeds nor is refused."""
    file = tmp_path / "shop.sock"
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as client:
        alive.bind(str(file))
        alive.listen(backlog)
        client.connect(str(file))
        with pytest.raises(UnavailableError, match="another server answers there; stop it first"):
            door.one(f"unix:{file}")

        assert stat.S_ISSOCK(file.stat().st_mode)

        with alive.accept()[0] as accepted:
            assert accepted


def test_a_file_that_is_not_a_socket_is_never_removed(door, tmp_path: Path):
    """Somebody's data stands where a typing error points to."""
    file = tmp_path / "precious"
    file.write_text("data")

    with pytest.raises(UnavailableError, match="that file is not a socket, and asgid will not remove it"):
        door.one(f"unix:{file}")

    assert file.read_text() == "data"


def test_the_file_is_removed_with_its_listener(door, tmp_path: Path):
    """The next start finds a clean place."""
    held = door.one(f"unix:{tmp_path}/shop.sock")
    door.close([held.address])

    assert list(tmp_path.iterdir()) == []
    assert held.socket.fileno() == -1


@pytest.mark.parametrize("other", ["socket", "file"])
def test_a_file_that_another_process_put_there_is_not_removed(door, tmp_path: Path, other):
    """Only the inode that was made here is removed."""
    file = tmp_path / "shop.sock"
    held = door.one(f"unix:{file}")
    file.unlink()
    with socket.socket(socket.AF_UNIX) as theirs:
        if other == "socket":
            theirs.bind(str(file))
        else:
            file.write_text("data")
        door.close([held.address])

        assert file.exists()


# Names, descriptors, systemd


def test_a_socket_file_is_shared_by_its_old_and_its_new_name(door, tmp_path: Path):
    """A reload that writes the path otherwise; the file goes with the last of them."""
    first = door.one(f"unix:{tmp_path}/a.sock", mode="0600")
    (second,) = door.open(listens(f"unix:{tmp_path}/../{tmp_path.name}/a.sock"))
    door.close([first.address])

    assert (tmp_path / "a.sock").is_socket()
    assert accepts(second)

    door.close([second.address])

    assert not (tmp_path / "a.sock").exists()


def test_one_socket_file_under_two_names_of_one_configuration_is_refused(door, tmp_path: Path):
    """It is not another server that answers there."""
    with pytest.raises(UnavailableError, match=f"unix:{tmp_path}/a.sock is the same file; leave one of them out"):
        door.open(listens(f"unix:{tmp_path}/a.sock", f"unix:{tmp_path}/../{tmp_path.name}/a.sock"))


def test_an_abstract_name_needs_no_file(door):
    """It is gone with its socket; taken, it is said."""
    name = f"unix:@asgid-test-{os.getpid()}"
    held = door.one(name)

    assert held.local_address == name
    assert accepts(held)

    before = descriptors()
    with pytest.raises(UnavailableError, match=f"cannot listen on {name}: the address is in use"):
        _Door({}).one(name)

    assert descriptors() == before

    door.close([held.address])

    assert accepts(door.one(name))


@pytest.mark.parametrize("is_listening", [True, False])
def test_a_descriptor_is_duplicated_and_stays_open(door, is_listening):
    """Bound is enough; the backlog is ours. Closed here, it is still open there."""
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        if is_listening:
            given.listen(1)
        held = door.one(f"fd:{given.fileno()}")

        assert held.socket.getsockname() == given.getsockname()
        assert held.socket.fileno() != given.fileno()
        assert accepts(held)

        door.close([held.address])

        assert given.getsockname()


def test_a_descriptor_that_is_not_a_stream_socket_is_refused(door):
    """A file and a datagram socket cannot be listened on; they stay as they were."""
    with (
        open("/dev/null") as file,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        before = descriptors()
        with pytest.raises(UnavailableError, match="is not an open socket"):
            door.one(f"fd:{file.fileno()}")
        with pytest.raises(UnavailableError, match="is not a stream socket"):
            door.one(f"fd:{datagrams.fileno()}")

        assert descriptors() == before
        assert os.fstat(file.fileno())
        assert datagrams.getsockname()


def test_sockets_of_systemd_are_found_by_their_name():
    """All that share it, as those of one unit do; a name it did not pass is told with those it did."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.2", 0)) as other,
        socket.create_server(("127.0.0.3", 0)) as admin,
    ):
        door = _Door({"http": [one.fileno(), other.fileno()], "admin": [admin.fileno()]})
        helds = door.open(listens("systemd:http"))

        assert [held.socket.getsockname() for held in helds] == [one.getsockname(), other.getsockname()]
        assert [listener.fd for listener in door.for_worker(listens("systemd:http"))] == [
            held.socket.fileno() for held in door
        ]
        assert all(map(accepts, helds))

        with pytest.raises(UnavailableError, match=r"it passed admin, http\); set FileDescriptorName=https"):
            door.one("systemd:https")

        door.close(door.addresses)

        assert [held.socket.fileno() for held in helds] == [-1, -1]


def test_if_one_socket_of_a_name_of_systemd_is_unusable_none_is_opened():
    """What the unit calls by one name is served whole or not at all."""
    with socket.create_server(("127.0.0.1", 0)) as given, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        door = _Door({"http": [given.fileno(), datagrams.fileno()]})
        before = descriptors()
        with pytest.raises(UnavailableError, match="is not a stream socket"):
            door.one("systemd:http")

        assert not door.addresses
        assert descriptors() == before


# Afterwards


def test_the_queue_has_its_length_and_its_limit(door):
    """Connections that the kernel has completed and nobody has taken, and how many may."""
    held = door.one("127.0.0.1:0", backlog=3)

    assert held.queue() == (0, 3)

    with socket.create_connection(held.socket.getsockname(), 5), socket.create_connection(held.socket.getsockname(), 5):
        assert held.queue() == (2, 3)

        held.socket.accept()[0].close()

        assert held.queue() == (1, 3)


def test_the_queue_of_a_socket_file_is_unknown(door, tmp_path: Path):
    """The kernel tells it to nobody."""
    assert door.one(f"unix:{tmp_path}/shop.sock").queue() is None


def test_a_kept_socket_gets_the_name_and_the_backlog_of_the_new_configuration(door):
    """Without being closed: who waits in its queue goes on waiting."""
    held = door.one("127.0.0.1:0", name="old", backlog=3)
    with socket.create_connection(held.socket.getsockname(), 5):
        door.apply_settings([Listen(bind="127.0.0.1:0", name="new", backlog=9)])

        assert (held.name, held.backlog, held.queue()) == ("new", 9, (1, 9))

        door.apply_settings([Listen(bind="127.0.0.1:0", backlog=4)])

        assert (held.name, held.queue()) == ("127.0.0.1:0", (1, 4))


def test_a_kept_socket_whose_port_was_taken_is_reported(door):
    """An application can shut the socket down and listen on its port: the reload names that, and goes on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    held = door.one(bind, backlog=3)
    other = door.one("unix:@asgid-test-kept", backlog=3)
    where = held.socket.getsockname()
    held.socket.shutdown(socket.SHUT_RD)
    with closing(socket.socket()) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(where)
        thief.listen()
        wanted = [Listen(bind=bind, name="new", backlog=9), Listen(bind="unix:@asgid-test-kept", backlog=9)]
        (problem,) = door.apply_settings(wanted)

    assert problem.startswith(f"cannot listen on {bind}: the address is in use")
    assert (held.name, held.backlog, other.backlog) == ("new", 3, 9)
    assert accepts(other)


def test_a_kept_socket_file_gets_the_rights_of_the_new_configuration(door, tmp_path: Path):
    """It is the same file, and what cannot be done is said and changes nothing."""
    file = tmp_path / "shop.sock"
    held = door.one(f"unix:{file}", mode="0600")
    made = file.stat()

    assert [] == door.apply_settings([Listen.model_validate({"bind": f"unix:{file}", "mode": "0666"})])
    assert (made.st_ino, 0o666) == (file.stat().st_ino, stat.S_IMODE(file.stat().st_mode))

    problems = door.apply_settings([Listen(bind=f"unix:{file}", owner="no-such-one")])

    assert ["listen.owner: there is no user 'no-such-one'"] == problems
    assert stat.S_IMODE(file.stat().st_mode) == 0o666
    assert accepts(held)


def test_a_file_that_replaced_a_kept_socket_file_is_not_changed(door, tmp_path: Path):
    """It is not ours; that nobody can connect any more is said."""
    file = tmp_path / "shop.sock"
    door.one(f"unix:{file}")
    file.rename(tmp_path / "moved.sock")
    file.touch(mode=0o600)

    assert door.apply_settings(listens(f"unix:{file}")) == [
        f"unix:{file}: another file has taken the place of the socket's"
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    file.unlink()

    (problem,) = door.apply_settings(listens(f"unix:{file}"))
    assert "No such file" in problem


@pytest.mark.parametrize("is_link", [True, False])
def test_another_file_with_the_inode_of_a_socket_file_is_not_changed(tmp_path: Path, is_link):
    """A link to a socket is not followed, and a plain file is no socket: numbers repeat on another file system, and an
    older version hands no more of them over.
    """
    file, victim = tmp_path / "shop.sock", tmp_path / "victim"
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as others:
        sock.bind(str(tmp_path / "moved.sock"))
        if is_link:
            others.bind(str(victim))
            file.symlink_to(victim)
        else:
            file.touch()
            victim = file
        found = victim.stat()
        door = _Door({}, [ListenerState(f"unix:{file}", "shop", 5, found.st_ino, os.dup(sock.fileno()))])

        assert [f"unix:{file}: another file has taken the place of the socket's"] == door.apply_settings(
            listens(f"unix:{file}")
        )
        assert found.st_mode == victim.stat().st_mode

        door.close(door.addresses)

        assert is_link == file.is_symlink()
        assert victim.exists()


def test_a_socket_file_with_the_same_inode_on_another_file_system_is_not_ours(tmp_path: Path):
    """It is neither changed nor removed."""
    file = tmp_path / "shop.sock"
    with socket.create_server(str(file), family=socket.AF_UNIX) as sock:
        found = file.stat()
        part = ListenerState(f"unix:{file}", "shop", 5, found.st_ino, os.dup(sock.fileno()), found.st_dev + 1)
        door = _Door({}, [part])

        assert len(door.apply_settings(listens(f"unix:{file}"))) == 1
        assert file.stat().st_mode == found.st_mode

        door.close(door.addresses)

        assert file.exists()


def test_a_socket_file_that_was_handed_over_is_ours(door, tmp_path: Path):
    """Its rights change with the configuration, and it goes with its listener, in the next program too."""
    file = tmp_path / "shop.sock"
    held = door.one(f"unix:{file}")
    (part,) = door.to_handover()
    after = _Door({}, [replace(part, fd=os.dup(held.socket.fileno()))])

    assert [] == after.apply_settings([Listen.model_validate({"bind": f"unix:{file}", "mode": "0606"})])
    assert stat.S_IMODE(file.stat().st_mode) == 0o606

    after.close(after.addresses)

    assert not file.exists()


def test_a_worker_gets_the_listeners_of_its_configuration_in_the_order_of_the_file(door, tmp_path: Path):
    """Those of another generation are not its business."""
    door.open(listens("127.0.0.1:0", f"unix:{tmp_path}/a.sock", f"unix:{tmp_path}/b.sock"))
    found = door.for_worker(listens(f"unix:{tmp_path}/b.sock", "127.0.0.1:0"))
    held = {each.name: each for each in door}

    assert [listener.name for listener in found] == [f"unix:{tmp_path}/b.sock", "127.0.0.1:0"]
    assert [listener.fd for listener in found] == [held[listener.name].socket.fileno() for listener in found]
    assert found[0].backlog == Listen().backlog


def _has_ipv6() -> bool:
    try:
        with closing(socket.socket(socket.AF_INET6)) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
