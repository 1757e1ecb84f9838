"""Listening sockets are bound, adopted, changed and closed; sockets and files of other programs are not touched."""

import ctypes
import fcntl
import os
import pwd
import re
import select
import socket
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from asgid.config.tables import Listen
from asgid.errors import UnavailableError
from asgid.master.listeners import Listeners
from asgid.master.net.bound_socket import BoundSocket
from asgid.master.net.listener_state import ListenerState
from asgid.master.net.socket_options import SocketOptions
from asgid.master.net.unix_sockets import SocketFile
from tests.rights import without_rights


class _Listeners(Listeners):
    """Listeners with a shortcut for one address."""

    def one(self, bind: str, **settings: object) -> BoundSocket:
        """Open this address and return it."""
        (bound,) = self.open([Listen.model_validate({"bind": bind, **settings})])
        return bound


@pytest.fixture
def listeners() -> Iterator[_Listeners]:
    listeners = _Listeners({})
    yield listeners
    listeners.close(listeners.addresses)


def accepts(bound: BoundSocket) -> bool:
    """Return whether a client that connects to the address of the socket is accepted."""
    family, name = bound.socket.family, bound.socket.getsockname()
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(name)
        with bound.socket.accept()[0] as accepted:
            return bool(accepted)


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def listens(*binds: str) -> Iterable[Listen]:
    return [Listen(bind=bind) for bind in binds]


# TCP


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hosts file; a lookup of any other name fails the test."""
    file = tmp_path / "hosts"
    file.write_text("# 127.0.0.1 old.internal\n127.0.0.1 localhost here # there\n\n::1\tlocalhost6\n")
    monkeypatch.setattr("asgid.master.net.tcp_sockets.HOSTS", str(file))

    def answers(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        assert host in ("127.0.0.1", "localhost", "here"), "a name server is asked"
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", answers)


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "localhost:0", "here:0", ":0", "unix:@asgid-reload"])
def test_a_number_or_a_name_of_the_hosts_file_needs_no_name_server(listeners, bind):
    assert len(listeners.open(listens(bind), may_wait=False)) == 1


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("name", ["app.internal", "old.internal", "there"])
def test_a_name_that_only_a_name_server_knows_is_refused_in_a_reload(listeners, name):
    """Without a lookup. Sockets that were bound before it are closed, and the message has the fix."""
    with pytest.raises(UnavailableError, match=f"{name}:80: a reload asks no name server; write its number"):
        listeners.open(listens("127.0.0.1:0", f"{name}:80"), may_wait=False)

    assert not listeners.addresses


def test_the_local_address_has_the_port_that_the_kernel_chose(listeners):
    bound = listeners.one("127.0.0.1:0")
    port = bound.socket.getsockname()[1]

    assert port > 0
    assert bound.local_address == f"127.0.0.1:{port}"
    assert bound.name == "127.0.0.1:0"
    assert accepts(bound)
    assert not bound.socket.getblocking()
    assert not bound.socket.get_inheritable()


def test_ipv6_is_ipv6_only(listeners):
    """`[::1]` is one address; the IPv4 port with the same number stays free."""
    if not _has_ipv6():
        pytest.skip("this machine has no ::1")
    bound = listeners.one("[::1]:0")

    assert bound.local_address == f"[::1]:{bound.socket.getsockname()[1]}"
    assert bound.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert accepts(bound)


def test_an_address_without_a_host_is_every_interface(listeners):
    bound = listeners.one(":0")
    port = bound.socket.getsockname()[1]
    hosts = ["127.0.0.1", "::1"] if _has_ipv6() else ["127.0.0.1"]
    for host in hosts:
        with socket.create_connection((host, port), 5), bound.socket.accept()[0] as accepted:
            assert accepted


def test_a_name_is_resolved(listeners):
    assert all(accepts(bound) for bound in listeners.open(listens("localhost:0")))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Resolve every name to these addresses, each twice, as getaddrinfo(3) may return them."""

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


def test_a_name_with_several_addresses_is_bound_at_all_of_them(listeners, monkeypatch):
    """With the same port. Debian and Docker list ::1 first; a client of 127.0.0.1 would find no server."""
    if not _has_ipv6():
        pytest.skip("this machine has no ::1")
    resolve_to(monkeypatch, "::1", "127.0.0.1")
    bound = listeners.open(listens("localhost:0"))
    (port,) = {each.socket.getsockname()[1] for each in bound}

    assert [each.local_address for each in bound] == [f"[::1]:{port}", f"127.0.0.1:{port}"]
    assert {each.name for each in bound} == {"localhost:0"}
    assert all(map(accepts, bound))
    assert len(listeners.for_worker(listens("localhost:0"))) == 2


def test_an_address_that_this_machine_does_not_have_is_left_out(listeners, monkeypatch):
    """A hosts file may list ::1 without IPv6, and a name server lists all machines of a name."""
    resolve_to(monkeypatch, "198.51.100.1", "127.0.0.1")
    (bound,) = listeners.open(listens("localhost:0"))

    assert bound.local_address.startswith("127.0.0.1:")

    resolve_to(monkeypatch, "198.51.100.1", "203.0.113.2")
    with pytest.raises(UnavailableError, match="cannot listen on shop:0: this machine has no such address"):
        listeners.open(listens("shop:0"))


def test_a_socket_is_shared_by_its_old_and_its_new_name(listeners, monkeypatch):
    """After a reload from 127.0.0.1:P to localhost:P no connection in the queue is lost."""
    resolve_to(monkeypatch, "127.0.0.1")
    first = listeners.one("127.0.0.1:0")
    port = first.socket.getsockname()[1]
    (second,) = listeners.open(listens(f"localhost:{port}"))
    with socket.create_connection(("127.0.0.1", port), 5):
        listeners.close([first.address])

        assert second.local_address == f"127.0.0.1:{port}"
        assert second.name == f"localhost:{port}"
        with second.socket.accept()[0] as accepted:
            assert accepted
    assert accepts(second)


@pytest.mark.parametrize(("host", "wanted"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1")])
def test_if_asgid_itself_has_the_port_the_message_names_its_listener(listeners, host, wanted):
    """`ss` would show only asgid. The kernel cannot change one socket into the other."""
    first = listeners.one(f"{host}:0")
    port = first.socket.getsockname()[1]
    with pytest.raises(UnavailableError) as info:
        listeners.open(listens(f"{wanted}:{port}"))

    message = str(info.value)
    assert message.startswith(
        f"cannot listen on {wanted}:{port}: asgid itself listens on {first.local_address} (for {host}:0)"
    )
    assert message.endswith("only a restart changes one into the other")


def test_one_address_under_two_names_of_one_configuration_is_refused(listeners, monkeypatch):
    resolve_to(monkeypatch, "127.0.0.1")
    first = listeners.one("127.0.0.1:0")
    bind = f"localhost:{first.socket.getsockname()[1]}"

    with pytest.raises(
        UnavailableError, match=f"asgid itself listens on {first.local_address}.*; leave one of them out"
    ):
        listeners.open(listens(bind), kept=[first.address])


def test_the_port_of_another_program_is_not_mistaken_for_that_of_asgid(listeners):
    """Even if asgid has the same port on another address of this machine."""
    first = listeners.one("127.0.0.1:0")
    port = first.socket.getsockname()[1]
    with socket.create_server(("127.0.0.2", port)), pytest.raises(UnavailableError, match="`ss -lntxp`"):
        listeners.one(f"127.0.0.2:{port}")


def test_a_port_in_use_is_reported_with_a_command_to_find_the_process(listeners):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(UnavailableError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .* `ss -lntxp`"):
            listeners.one(f"127.0.0.1:{port}")


def test_time_wait_of_the_last_run_does_not_prevent_a_bind(listeners):
    """A server that closed its connections first leaves them in TIME_WAIT for a minute (ip(7), SO_REUSEADDR)."""
    bound = listeners.one("127.0.0.1:0")
    address = bound.local_address
    with socket.create_connection(bound.socket.getsockname(), 5) as client:
        bound.socket.accept()[0].close()
        client.recv(1)
    listeners.close([bound.address])

    assert listeners.one(address).local_address == address


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
def test_an_address_that_cannot_be_opened_is_reported_and_leaves_nothing_open(listeners, bind, words):
    before = descriptors()

    with pytest.raises(UnavailableError) as caught:
        listeners.one(bind)

    assert words in str(caught.value)
    assert not listeners.addresses
    assert descriptors() == before


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user can reach; those of pytest are for one user."""
    with tempfile.TemporaryDirectory(prefix="asgid-") as name:
        yield Path(name)


def test_a_directory_without_write_permission_is_reported_with_the_user(listeners, shared: Path):
    """The hint about ports below 1024 does not apply to a socket file."""
    shared.chmod(0o555)
    bind = f"unix:{shared}/shop.sock"

    with without_rights(), pytest.raises(UnavailableError) as caught:
        listeners.one(bind)

    message = rf"cannot listen on {bind}: permission denied; (user|uid) \S+ may not make a file in {shared}"

    assert re.fullmatch(message, str(caught.value))


def test_a_socket_file_of_another_user_is_reported(listeners, shared: Path):
    """Without the permission to connect, asgid cannot see whether it is in use."""
    shared.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{shared}/shop.sock")
        (shared / "shop.sock").chmod(0)

        with (
            without_rights(),
            pytest.raises(UnavailableError, match=r"permission denied; (user|uid) \S+ may not connect to the"),
        ):
            listeners.one(f"unix:{shared}/shop.sock")


def test_all_listeners_are_opened_or_none(listeners, tmp_path: Path):
    """The sockets that were opened before the failure are closed, and their files are removed."""
    first = listeners.one("127.0.0.1:0")
    file = tmp_path / "shop.sock"
    before = descriptors()

    with pytest.raises(UnavailableError, match=r"192\.0\.2\.1"):
        listeners.open(listens(f"unix:{file}", "192.0.2.1:8000"))

    assert [first.address] == list(listeners.addresses)
    assert descriptors() == before
    assert not file.exists()
    assert accepts(first)


# Socket files


@pytest.mark.parametrize("mode", ["0660", "0600", "0666"])
def test_a_socket_file_has_the_mode_of_the_setting(listeners, tmp_path: Path, mode):
    """With any umask, which is unchanged afterwards."""
    old = os.umask(0o027)
    try:
        bound = listeners.one(f"unix:{tmp_path}/shop.sock", mode=mode)

        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "shop.sock").stat().st_mode) == int(mode, 8)
    assert bound.local_address == f"unix:{tmp_path}/shop.sock"
    assert accepts(bound)


def test_no_client_can_connect_before_a_socket_file_has_its_owner_and_mode(listeners, tmp_path: Path):
    modes: list[int] = []
    with patch.object(SocketFile, "set_owner_and_mode", lambda file, _: modes.append(os.stat(file.path).st_mode)):
        listeners.one(f"unix:{tmp_path}/shop.sock", mode="0666")

    assert [0] == [stat.S_IMODE(mode) for mode in modes]


def test_a_socket_file_has_the_owner_and_group_of_the_setting(listeners, tmp_path: Path):
    """By name, such as the user of a proxy, or by id, which needs no name."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    listeners.one(f"unix:{tmp_path}/shop.sock", owner="nobody", group="54322")
    found = (tmp_path / "shop.sock").stat()

    assert (found.st_uid, found.st_gid) == (pwd.getpwnam("nobody").pw_uid, 54322)


@pytest.mark.parametrize(("key", "word"), [("owner", "user"), ("group", "group")])
def test_an_owner_that_does_not_exist_leaves_no_file_behind(listeners, tmp_path: Path, key, word):
    """The next start must not find an unfinished file."""
    with pytest.raises(UnavailableError, match=rf"listen.{key}: this machine has no {word} 'no-such-one'"):
        listeners.one(f"unix:{tmp_path}/shop.sock", **{key: "no-such-one"})

    assert list(tmp_path.iterdir()) == []


def test_the_file_of_an_ended_server_is_replaced(listeners, tmp_path: Path):
    """A refused connect proves that it has ended."""
    file = tmp_path / "shop.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(file))

    assert accepts(listeners.one(f"unix:{file}"))


@pytest.mark.parametrize("backlog", [5, 0])
def test_the_file_of_a_running_server_is_not_touched(listeners, tmp_path: Path, backlog):
    """Even if its queue is full, when a connect neither succeeds nor is refused."""
    file = tmp_path / "shop.sock"
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as client:
        alive.bind(str(file))
        alive.listen(backlog)
        client.connect(str(file))
        with pytest.raises(UnavailableError, match="another server answers there; stop it first"):
            listeners.one(f"unix:{file}")

        assert stat.S_ISSOCK(file.stat().st_mode)

        with alive.accept()[0] as accepted:
            assert accepted


def test_a_file_that_is_not_a_socket_is_never_removed(listeners, tmp_path: Path):
    """After a typing error the path may lead to data."""
    file = tmp_path / "precious"
    file.write_text("data")

    with pytest.raises(UnavailableError, match="that file is not a socket, and asgid will not remove it"):
        listeners.one(f"unix:{file}")

    assert file.read_text() == "data"


def test_the_file_is_removed_with_its_listener(listeners, tmp_path: Path):
    bound = listeners.one(f"unix:{tmp_path}/shop.sock")
    listeners.close([bound.address])

    assert list(tmp_path.iterdir()) == []
    assert bound.socket.fileno() == -1


@pytest.mark.parametrize("other", ["socket", "file"])
def test_a_file_that_another_process_put_there_is_not_removed(listeners, tmp_path: Path, other):
    file = tmp_path / "shop.sock"
    bound = listeners.one(f"unix:{file}")
    file.unlink()
    with socket.socket(socket.AF_UNIX) as theirs:
        if other == "socket":
            theirs.bind(str(file))
        else:
            file.write_text("data")
        listeners.close([bound.address])

        assert file.exists()


# Names, descriptors, systemd


def test_a_socket_file_is_shared_by_its_old_and_its_new_name(listeners, tmp_path: Path):
    """After a reload with another spelling of the path. The file is removed with the last of them."""
    first = listeners.one(f"unix:{tmp_path}/a.sock", mode="0600")
    (second,) = listeners.open(listens(f"unix:{tmp_path}/./a.sock"))
    listeners.close([first.address])

    assert (tmp_path / "a.sock").is_socket()
    assert accepts(second)

    listeners.close([second.address])

    assert not (tmp_path / "a.sock").exists()


def test_one_socket_file_under_two_names_of_one_configuration_is_refused(listeners, tmp_path: Path):
    with pytest.raises(UnavailableError, match=f"unix:{tmp_path}/a.sock is the same file; leave one of them out"):
        listeners.open(listens(f"unix:{tmp_path}/a.sock", f"unix:{tmp_path}/./a.sock"))


def test_an_abstract_name_needs_no_file(listeners):
    """It ends with its socket; one that is in use is reported."""
    name = f"unix:@asgid-test-{os.getpid()}"
    bound = listeners.one(name)

    assert bound.local_address == name
    assert accepts(bound)

    before = descriptors()
    with pytest.raises(UnavailableError, match=f"cannot listen on {name}: the address is in use"):
        _Listeners({}).one(name)

    assert descriptors() == before

    listeners.close([bound.address])

    assert accepts(listeners.one(name))


@pytest.mark.parametrize("is_listening", [True, False])
def test_a_descriptor_is_duplicated_and_stays_open(listeners, is_listening):
    """It must be bound; asgid sets the backlog. After a close of the duplicate the given one is still open."""
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        if is_listening:
            given.listen(1)
        bound = listeners.one(f"fd:{given.fileno()}")

        assert bound.socket.getsockname() == given.getsockname()
        assert bound.socket.fileno() != given.fileno()
        assert accepts(bound)

        listeners.close([bound.address])

        assert given.getsockname()


def test_a_descriptor_that_is_not_a_stream_socket_is_refused(listeners):
    """Such as a file or a datagram socket; both stay unchanged."""
    with open("/dev/null") as file, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        before = descriptors()
        with pytest.raises(UnavailableError, match="is not an open socket"):
            listeners.one(f"fd:{file.fileno()}")
        with pytest.raises(UnavailableError, match="is not a stream socket"):
            listeners.one(f"fd:{datagrams.fileno()}")

        assert descriptors() == before
        assert os.fstat(file.fileno())
        assert datagrams.getsockname()


def test_sockets_of_systemd_are_found_by_their_name():
    """All that share it, such as those of one unit. For an unknown name the message lists the known ones."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.2", 0)) as other,
        socket.create_server(("127.0.0.3", 0)) as admin,
    ):
        listeners = _Listeners({"http": [one.fileno(), other.fileno()], "admin": [admin.fileno()]})
        sockets = listeners.open(listens("systemd:http"))

        assert [bound.socket.getsockname() for bound in sockets] == [one.getsockname(), other.getsockname()]
        assert [listener.fd for listener in listeners.for_worker(listens("systemd:http"))] == [
            bound.socket.fileno() for bound in listeners
        ]
        assert all(map(accepts, sockets))

        with pytest.raises(UnavailableError, match=r"it passed admin, http\); set FileDescriptorName=https"):
            listeners.one("systemd:https")

        listeners.close(listeners.addresses)

        assert [bound.socket.fileno() for bound in sockets] == [-1, -1]


def test_if_one_socket_of_a_name_of_systemd_is_unusable_none_is_opened():
    """All sockets of one name are served, or none."""
    with socket.create_server(("127.0.0.1", 0)) as given, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        listeners = _Listeners({"http": [given.fileno(), datagrams.fileno()]})
        before = descriptors()
        with pytest.raises(UnavailableError, match="is not a stream socket"):
            listeners.one("systemd:http")

        assert not listeners.addresses
        assert descriptors() == before


# Open sockets


def test_the_queue_has_its_length_and_its_limit(listeners):
    """Completed connections that were not accepted yet, and the backlog."""
    bound = listeners.one("127.0.0.1:0", backlog=3)

    assert bound.queue() == (0, 3)

    with (
        socket.create_connection(bound.socket.getsockname(), 5),
        socket.create_connection(bound.socket.getsockname(), 5),
    ):
        assert bound.queue() == (2, 3)

        bound.socket.accept()[0].close()

        assert bound.queue() == (1, 3)


def test_the_queue_of_a_socket_file_is_unknown(listeners, tmp_path: Path):
    assert listeners.one(f"unix:{tmp_path}/shop.sock").queue() is None


def test_a_kept_socket_gets_the_name_and_the_backlog_of_the_new_configuration(listeners):
    """Without a close, so that no connection in its queue is lost."""
    bound = listeners.one("127.0.0.1:0", name="old", backlog=3)
    with socket.create_connection(bound.socket.getsockname(), 5):
        listeners.apply_settings([Listen(bind="127.0.0.1:0", name="new", backlog=9)])

        assert (bound.name, bound.backlog, bound.queue()) == ("new", 9, (1, 9))

        listeners.apply_settings([Listen(bind="127.0.0.1:0", backlog=4)])

        assert (bound.name, bound.queue()) == ("127.0.0.1:0", (1, 4))


def test_a_kept_socket_whose_port_was_taken_is_reported(listeners):
    """An application can shut the socket down and take its port. The reload reports that and continues."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    bound = listeners.one(bind, backlog=3)
    other = listeners.one("unix:@asgid-test-kept", backlog=3)
    where = bound.socket.getsockname()
    bound.socket.shutdown(socket.SHUT_RD)
    with closing(socket.socket()) as other_socket:
        other_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other_socket.bind(where)
        other_socket.listen()
        wanted = [Listen(bind=bind, name="new", backlog=9), Listen(bind="unix:@asgid-test-kept", backlog=9)]
        (problem,) = listeners.apply_settings(wanted)

    assert problem.startswith(f"cannot listen on {bind}: the address is in use")
    assert (bound.name, bound.backlog, other.backlog) == ("new", 3, 9)
    assert accepts(other)


def test_a_kept_socket_file_gets_the_rights_of_the_new_configuration(listeners, tmp_path: Path):
    """It stays the same file. A failure is reported and changes nothing."""
    file = tmp_path / "shop.sock"
    bound = listeners.one(f"unix:{file}", mode="0600")
    made = file.stat()

    assert [] == listeners.apply_settings([Listen.model_validate({"bind": f"unix:{file}", "mode": "0666"})])
    assert (made.st_ino, 0o666) == (file.stat().st_ino, stat.S_IMODE(file.stat().st_mode))

    problems = listeners.apply_settings([Listen(bind=f"unix:{file}", owner="no-such-one")])

    assert ["listen.owner: this machine has no user 'no-such-one'"] == problems
    assert stat.S_IMODE(file.stat().st_mode) == 0o666
    assert accepts(bound)


def test_a_file_that_replaced_a_kept_socket_file_is_not_changed(listeners, tmp_path: Path):
    file = tmp_path / "shop.sock"
    listeners.one(f"unix:{file}")
    file.rename(tmp_path / "moved.sock")
    file.touch(mode=0o600)

    assert listeners.apply_settings(listens(f"unix:{file}")) == [
        f"unix:{file}: another file has taken the place of the socket's"
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    file.unlink()

    (problem,) = listeners.apply_settings(listens(f"unix:{file}"))
    assert "No such file" in problem


@pytest.mark.parametrize("is_link", [True, False])
def test_another_file_with_the_inode_of_a_socket_file_is_not_changed(tmp_path: Path, is_link):
    """Inode numbers repeat on another file system. A link is not followed, and a regular file is not a socket."""
    file, victim = tmp_path / "shop.sock", tmp_path / "victim"
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as other_socket:
        sock.bind(str(tmp_path / "moved.sock"))
        if is_link:
            other_socket.bind(str(victim))
            file.symlink_to(victim)
        else:
            file.touch()
            victim = file
        found = victim.stat()
        listeners = _Listeners({}, [ListenerState(f"unix:{file}", "shop", 5, found.st_ino, os.dup(sock.fileno()))])

        assert [f"unix:{file}: another file has taken the place of the socket's"] == listeners.apply_settings(
            listens(f"unix:{file}")
        )
        assert found.st_mode == victim.stat().st_mode

        listeners.close(listeners.addresses)

        assert is_link == file.is_symlink()
        assert victim.exists()


def test_a_socket_file_with_the_same_inode_on_another_file_system_is_not_ours(tmp_path: Path):
    file = tmp_path / "shop.sock"
    with socket.create_server(str(file), family=socket.AF_UNIX) as sock:
        found = file.stat()
        part = ListenerState(f"unix:{file}", "shop", 5, found.st_ino, os.dup(sock.fileno()), found.st_dev + 1)
        listeners = _Listeners({}, [part])

        assert len(listeners.apply_settings(listens(f"unix:{file}"))) == 1
        assert file.stat().st_mode == found.st_mode

        listeners.close(listeners.addresses)

        assert file.exists()


def test_a_socket_file_that_was_handed_over_is_ours(listeners, tmp_path: Path):
    """The next program changes its rights with the configuration, and removes it with its listener."""
    file = tmp_path / "shop.sock"
    bound = listeners.one(f"unix:{file}")
    (part,) = listeners.to_handover()
    after = _Listeners({}, [replace(part, fd=os.dup(bound.socket.fileno()))])

    assert [] == after.apply_settings([Listen.model_validate({"bind": f"unix:{file}", "mode": "0606"})])
    assert stat.S_IMODE(file.stat().st_mode) == 0o606

    after.close(after.addresses)

    assert not file.exists()


def test_a_worker_gets_the_listeners_of_its_configuration_in_the_order_of_the_file(listeners, tmp_path: Path):
    """It gets no listener of another generation."""
    listeners.open(listens("127.0.0.1:0", f"unix:{tmp_path}/a.sock", f"unix:{tmp_path}/b.sock"))
    found = listeners.for_worker(listens(f"unix:{tmp_path}/b.sock", "127.0.0.1:0"))
    bound = {each.name: each for each in listeners}

    assert [listener.name for listener in found] == [f"unix:{tmp_path}/b.sock", "127.0.0.1:0"]
    assert [listener.fd for listener in found] == [bound[listener.name].socket.fileno() for listener in found]
    assert found[0].backlog == Listen().backlog


def _has_ipv6() -> bool:
    try:
        with closing(socket.socket(socket.AF_INET6)) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


# Options


def test_changed_options_of_a_socket_are_restored_and_named() -> None:
    """Sizes of buffers are automatic again, and a worker that shares the socket does not block in accept(2)."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        options = SocketOptions(sock)
        assert options.restore() == []
        worker = sock.dup()
        worker.setblocking(True)
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 20)  # changes SO_RCVBUF, without its lock
        worker.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 100)
        worker.close()

        assert options.restore() == ["O_NONBLOCK", "SO_LINGER", "SO_RCVLOWAT", "SO_RCVBUF", "TCP_MAXSEG"]
        assert options.restore() == []
        assert fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK
        assert sock.getsockopt(socket.SOL_SOCKET, 72) == 0  # SO_BUF_LOCK
        with socket.create_connection(sock.getsockname()) as client:
            assert select.select([sock], [], [], 5)[0]
            with sock.accept()[0] as accepted:
                linger = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
                assert struct.unpack("ii", linger)[0] == 0
                assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) > 1000


def test_a_filter_cannot_be_attached_to_a_listening_socket() -> None:
    """A worker could lock the filter, and no process could remove it from the socket then (SO_LOCK_FILTER)."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        SocketOptions(sock)
        program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
        with pytest.raises(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, ctypes.addressof(program)))
