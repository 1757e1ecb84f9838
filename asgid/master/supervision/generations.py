"""Old and new configuration: which listeners to bind, which to close, and which settings need a restart.

A generation is one configuration with its listeners. Two generations share a listener if its address is the same, so a
reload never closes a socket with clients in its queue.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from asgid.address import Address, Descriptor, Systemd, parse
from asgid.board import MAX_WORKERS
from asgid.config import Config
from asgid.config.tables import Listen
from asgid.errors import UnavailableError
from asgid.master.supervision.lifecycle import Plan

#: The tables that only a restart changes: the pid file, the user, the sockets for the operator.
RESTART_ONLY = ("process", "control", "metrics")


@dataclass(frozen=True)
class Generation:
    """One configuration that serves, or is about to."""

    number: int
    config: Config

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses of its listeners, in the order of the file."""
        return tuple(parse(listen.bind) for listen in self.config.listen)


def make_plan(number: int, config: Config, cpus: int) -> Plan:
    """Return the supervisor's part of a configuration. With `workers.count = "auto"` there are `cpus` workers."""
    timeouts, workers = config.timeouts, config.workers
    return Plan(
        generation=number,
        wanted=min(cpus, MAX_WORKERS) if workers.count == "auto" else workers.count,
        surge=config.reload.surge,
        settle=config.reload.settle,
        boot=timeouts.boot,
        heartbeat=timeouts.heartbeat,
        # A stack that is requested after the worker was aborted would come too late.
        blocked=timeouts.blocked if timeouts.blocked < timeouts.heartbeat else inf,
        graceful=timeouts.graceful,
        kill=timeouts.kill,
    )


def with_systemd_sockets(config: Config, passed: Mapping[str, Collection[int]]) -> Config:
    """Return the configuration with a listener for each socket that systemd passed, if it has no [[listen]] of its own.

    `passed` holds descriptors by socket name. Raises UnavailableError if [[listen]] omits one of them: clients could
    connect there, and no worker would accept them.
    """
    if passed and not any(listen.model_fields_set for listen in config.listen):
        return config.model_copy(update={"listen": tuple(Listen(bind=f"systemd:{name}") for name in passed)})
    wanted = {listen.address for listen in config.listen}
    numbers = {each.fd for each in wanted if isinstance(each, Descriptor)}
    unused = [str(Systemd(name)) for name, fds in passed.items() if not numbers.issuperset(fds)]
    if omitted := sorted(set(unused) - set(map(str, wanted))):
        raise UnavailableError(
            f"nothing listens on {', '.join(omitted)}, which systemd passed, so its clients would wait in vain; "
            "name each as bind of a [[listen]] or with -b, or take it out of the .socket unit"
        )
    return config


def listeners_to_bind(config: Config, bound: Collection[Address]) -> list[Listen]:
    """Return the listeners with an address that is not bound yet."""
    return [listen for listen in config.listen if parse(listen.bind) not in bound]


def addresses_to_close(bound: Iterable[Address], generations: Iterable[Generation]) -> list[Address]:
    """Return the bound addresses that no generation uses any more."""
    used = {address for generation in generations for address in generation.addresses}
    return [address for address in bound if address not in used]


def tables_that_need_restart(old: Config, new: Config) -> list[str]:
    """Return the tables that differ and that a reload does not change."""
    return [table for table in RESTART_ONLY if getattr(old, table) != getattr(new, table)]


def with_tables_kept(old: Config, new: Config) -> Config:
    """Return the new configuration with the tables of the old one that only a restart changes."""
    return new.model_copy(update={table: getattr(old, table) for table in RESTART_ONLY})
