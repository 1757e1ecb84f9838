"""Checks between keys that are valid by themselves: addresses, labels and names that contradict each other.

The checks read the parsed file, not the models, so that one bad key does not hide another problem. A bad key itself is
skipped, because its own validator refuses it. Nothing on this machine is checked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asgid import address
from asgid.config.spelling import did_you_mean
from asgid.config.tables import Listen
from asgid.config.toml_lines import KeyPath
from asgid.config.value_types import quoted

_DEFAULT_BIND: str = Listen.model_fields["bind"].default


@dataclass(frozen=True)
class _Listener:
    path: KeyPath
    table: Mapping[str, Any]  #: as the file has it
    bind: object
    address: address.Address | None  #: None if `bind` is not an address

    @property
    def label(self) -> object:
        return self.table.get("name") or self.bind


def find_contradictions(content: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield path and message of each contradiction in `content`, a parsed file with at least a `listen`."""
    written = content["listen"] if isinstance(content["listen"], list) else [None]
    if not written:
        yield ("listen",), f"at least one address is needed; without the key it is {_DEFAULT_BIND}"
    listeners = []
    for index, table in enumerate(written):
        if isinstance(table, dict):
            bind = table.get("bind", _DEFAULT_BIND)
            listeners.append(_Listener(("listen", index), table, bind, _address(bind)))
    yield from _check_socket_file_keys(listeners)
    yield from _check_listen_addresses(listeners)
    if isinstance(metrics := content.get("metrics"), dict):
        yield from _check_metrics_address(listeners, metrics)
    yield from _check_labels(listeners)
    if isinstance(certificates := content.get("tls", {}), dict):
        yield from _check_certificates(listeners, certificates)
    if isinstance(proxy := content.get("proxy", {}), dict):
        yield from _check_proxy_headers(proxy)
        yield from _check_proxy_protocol(listeners, proxy)


def _check_socket_file_keys(listeners: Sequence[_Listener]) -> Iterator[tuple[KeyPath, str]]:
    for listener in listeners:
        if not isinstance(listener.address, address.Unix | None):
            for key in ("mode", "owner", "group"):
                if key in listener.table:
                    message = f'only for a socket file, bind = "unix:/path"; this listener is {listener.bind}'
                    yield (*listener.path, key), message


def _check_listen_addresses(listeners: Sequence[_Listener]) -> Iterator[tuple[KeyPath, str]]:
    for count, listener in enumerate(listeners):
        path, before = (*listener.path, "bind"), listeners[:count]
        if listener.address is None:
            continue
        if any(listener.address == other.address for other in before):
            why = "; the kernel would choose two ports, and a reload could not match them to their tables"
            is_chosen = isinstance(listener.address, address.Tcp) and listener.address.port == 0
            yield path, f"another [[listen]] already has {listener.bind}{why if is_chosen else ''}"
        else:
            yield from _check_bindable(path, listener.address, before)


def _check_metrics_address(listeners: Sequence[_Listener], metrics: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    # Only an address that the file sets: a start gives up the default one, with a warning.
    if metrics.get("enabled", True) is True and (bound := _address(metrics.get("bind"))):
        yield from _check_bindable(("metrics", "bind"), bound, listeners)


def _check_bindable(
    path: KeyPath, wanted: address.Address, listeners: Sequence[_Listener]
) -> Iterator[tuple[KeyPath, str]]:
    """Yield a message if a listener with the port of `wanted` has its host, or if one of the two has every host."""
    for listener in listeners:
        if isinstance(wanted, address.Tcp) and isinstance(other := listener.address, address.Tcp):
            hosts = (wanted.host, other.host)
            if wanted.port == other.port != 0 and (wanted.host == other.host or "" in hosts):
                yield path, f"{wanted} cannot be bound: a [[listen]] has {other}"
                return


def _check_labels(listeners: Sequence[_Listener]) -> Iterator[tuple[KeyPath, str]]:
    for count, listener in enumerate(listeners):
        # Listeners with the same address are refused for that already.
        others = [other for other in listeners[:count] if other.bind != listener.bind]
        if isinstance(listener.label, str) and listener.label in [other.label for other in others]:
            key = "name" if listener.table.get("name") else "bind"
            message = f"another listener has the label {quoted(listener.label)} too; metrics could not distinguish them"
            yield (*listener.path, key), message


def _check_certificates(
    listeners: Sequence[_Listener], certificates: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, str]]:
    for listener in listeners:
        name = listener.table.get("tls")
        if name and isinstance(name, str) and name not in certificates:
            yield (*listener.path, "tls"), f"there is no [tls.{name}]{did_you_mean(name, certificates)}"


def _check_proxy_headers(proxy: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for key, families in (("host", ("x-forwarded", "forwarded")), ("prefix", ("x-forwarded",))):
        headers = proxy.get("headers", "x-forwarded")
        if proxy.get(key) is True and headers in ("none", "forwarded") and headers not in families:
            needs = " or ".join(f'headers = "{family}"' for family in families)
            yield ("proxy", key), f"no such header is read with headers = {quoted(headers)}; write {needs}"


def _check_proxy_protocol(listeners: Sequence[_Listener], proxy: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for listener in listeners:
        if listener.table.get("proxy_protocol") in ("v1", "v2", "any") and proxy.get("trusted") == []:
            yield (*listener.path, "proxy_protocol"), "proxy.trusted is empty, so every connection would be refused"


def _address(bind: object) -> address.Address | None:
    try:
        return address.parse(bind) if isinstance(bind, str) else None
    except ValueError:
        return None
