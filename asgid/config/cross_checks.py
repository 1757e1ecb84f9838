"""What is wrong between keys, each of which is well written by itself: addresses, labels and names that clash.

It reads what was written rather than what became of it, so that one bad key hides no other; a bad one is passed over
here, for it is refused elsewhere. This file does not know what a machine has bound.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asgid import address
from asgid.config.suggestions import near
from asgid.config.toml_lines import KeyPath
from asgid.config.value_types import shown


@dataclass(frozen=True, slots=True)
class _Listener:
    path: KeyPath
    table: Mapping[str, Any]  #: as written
    bind: object
    address: address.Address | None  #: None where `bind` is none

    @property
    def label(self) -> object:
        return self.table.get("name") or self.bind


def contradictions(document: Mapping[str, Any], default_bind: str) -> Iterator[tuple[KeyPath, str]]:
    """Find them in `document`, a parsed file with at least a `listen`; without a bind it listens on `default_bind`."""
    written = document["listen"] if isinstance(document["listen"], list) else [None]
    if not written:
        yield ("listen",), f"at least one address is needed; without the key it is {default_bind}"
    listeners = []
    for index, table in enumerate(written):
        if isinstance(table, dict):
            bind = table.get("bind", default_bind)
            listeners.append(_Listener(("listen", index), table, bind, _address(bind)))
    yield from _keys_of_files(listeners)
    yield from _taken_addresses(listeners)
    if isinstance(metrics := document.get("metrics"), dict):
        yield from _taken_metrics(listeners, metrics)
    yield from _doubled_labels(listeners)
    if isinstance(certificates := document.get("tls", {}), dict):
        yield from _missing_certificates(listeners, certificates)
    if isinstance(proxy := document.get("proxy", {}), dict):
        yield from _unread_headers(proxy)
        yield from _untrusted_preambles(listeners, proxy)


def _keys_of_files(listeners: Sequence[_Listener]) -> Iterator[tuple[KeyPath, str]]:
    for listener in listeners:
        if not isinstance(listener.address, address.Unix | None):
            for key in ("mode", "owner", "group"):
                if key in listener.table:
                    message = f'only a socket file has it, bind = "unix:/path", and this listens on {listener.bind}'
                    yield (*listener.path, key), message


def _taken_addresses(listeners: Sequence[_Listener]) -> Iterator[tuple[KeyPath, str]]:
    for count, listener in enumerate(listeners):
        path, before = (*listener.path, "bind"), listeners[:count]
        if listener.address is None:
            continue
        if any(listener.address == other.address for other in before):
            why = "; the kernel would choose two ports, and a reload could not tell which of them is whose"
            is_chosen = isinstance(listener.address, address.Tcp) and listener.address.port == 0
            yield path, f"another [[listen]] has {listener.bind} already{why if is_chosen else ''}"
        else:
            yield from _excluded(path, listener.address, before)


def _taken_metrics(listeners: Sequence[_Listener], metrics: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    # Only an address that was written: the default one gives way, with a warning.
    if metrics.get("enabled", True) is True and (bound := _address(metrics.get("bind"))):
        yield from _excluded(("metrics", "bind"), bound, listeners)


def _excluded(path: KeyPath, wanted: address.Address, listeners: Sequence[_Listener]) -> Iterator[tuple[KeyPath, str]]:
    """Find the listener beside which `wanted` cannot be bound: of its port, and on its host or on every one."""
    for listener in listeners:
        if isinstance(wanted, address.Tcp) and isinstance(other := listener.address, address.Tcp):
            hosts = (wanted.host, other.host)
            if wanted.port == other.port != 0 and (wanted.host == other.host or "" in hosts):
                yield path, f"{wanted} cannot be bound: a [[listen]] has {other}"
                return


def _doubled_labels(listeners: Sequence[_Listener]) -> Iterator[tuple[KeyPath, str]]:
    for count, listener in enumerate(listeners):
        # Those of one address are refused for that already.
        others = [other for other in listeners[:count] if other.bind != listener.bind]
        if isinstance(listener.label, str) and listener.label in [other.label for other in others]:
            key = "name" if listener.table.get("name") else "bind"
            message = f"another listener is {shown(listener.label)} too; metrics could not tell them apart"
            yield (*listener.path, key), message


def _missing_certificates(
    listeners: Sequence[_Listener], certificates: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, str]]:
    for listener in listeners:
        name = listener.table.get("tls")
        if name and isinstance(name, str) and name not in certificates:
            yield (*listener.path, "tls"), f"there is no [tls.{name}]{near(name, certificates)}"


def _unread_headers(proxy: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for key, families in (("host", ("x-forwarded", "forwarded")), ("prefix", ("x-forwarded",))):
        headers = proxy.get("headers", "x-forwarded")
        if proxy.get(key) is True and headers in ("none", "forwarded") and headers not in families:
            needs = " or ".join(f'headers = "{family}"' for family in families)
            yield ("proxy", key), f"no header says it with headers = {shown(headers)}; it needs {needs}"


def _untrusted_preambles(listeners: Sequence[_Listener], proxy: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for listener in listeners:
        if listener.table.get("proxy_protocol") in ("v1", "v2", "any") and proxy.get("trusted") == []:
            yield (*listener.path, "proxy_protocol"), "proxy.trusted is empty, so every connection would be refused"


def _address(bind: object) -> address.Address | None:
    try:
        return address.parse(bind) if isinstance(bind, str) else None
    except ValueError:
        return None
