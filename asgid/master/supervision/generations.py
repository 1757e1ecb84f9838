"""Old and new configuration: which listeners to bind, which to close, and what a reload cannot change.

A generation is one configuration and the listeners it uses. Two generations share a listener when its address is the
same, so a reload never closes a queue that somebody may be standing in.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from asgid.address import Address, Descriptor, Systemd, parse
from asgid.board import MAX_WORKERS
from asgid.config import Config, Listen
from asgid.errors import UnavailableError
from asgid.master.supervision.lifecycle import Plan

#: What only a restart can change: the pid file, the user, the sockets of the operator's side.
RESTART_ONLY = ("process", "control", "metrics")


@dataclass(frozen=True, slots=True)
class Generation:
    """One configuration that serves, or wants to."""

    number: int
    config: Config

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens, in the order of the file."""
        return tuple(parse(listen.bind) for listen in self.config.listen)


def plan(number: int, config: Config, cpus: int) -> Plan:
    """Return what the supervisor needs to know of a configuration; `cpus` is what `workers.count = "auto"` means."""
    timeouts, workers = config.timeouts, config.workers
    return Plan(
        generation=number,
        wanted=min(cpus, MAX_WORKERS) if workers.count == "auto" else workers.count,
        surge=config.reload.surge,
        settle=config.reload.settle,
        boot=timeouts.boot,
        heartbeat=timeouts.heartbeat,
        # A stack asked for after the worker was given up would come too late.
        blocked=timeouts.blocked if timeouts.blocked < timeouts.heartbeat else inf,
        graceful=timeouts.graceful,
        kill=timeouts.kill,
    )


def with_passed(config: Config, passed: Mapping[str, Collection[int]]) -> Config:
    """Return the configuration on systemd's sockets, `passed` by name, where it says nothing of where to listen.

    Raises UnavailableError where it does, and leaves one of them out: whoever connects there would never be accepted.
    """
    if passed and not any(listen.model_fields_set for listen in config.listen):
        return config.model_copy(update={"listen": tuple(Listen(bind=f"systemd:{name}") for name in passed)})
    wanted = {listen.address for listen in config.listen}
    numbers = {each.fd for each in wanted if isinstance(each, Descriptor)}
    unwanted = [str(Systemd(name)) for name, fds in passed.items() if not numbers.issuperset(fds)]
    if idle := sorted(set(unwanted) - set(map(str, wanted))):
        raise UnavailableError(
            f"nothing listens on {', '.join(idle)}, which systemd passed, so its clients would wait in vain; "
            "name each as bind of a [[listen]] or with -b, or take it out of the .socket unit"
        )
    return config


def to_bind(config: Config, held: Collection[Address]) -> list[Listen]:
    """Return the listeners that are new."""
    return [listen for listen in config.listen if parse(listen.bind) not in held]


def to_close(held: Iterable[Address], generations: Iterable[Generation]) -> list[Address]:
    """Return the held addresses that no generation uses any more."""
    used = {address for generation in generations for address in generation.addresses}
    return [address for address in held if address not in used]


def needs_restart(old: Config, new: Config) -> list[str]:
    """Return the tables that differ and that a reload leaves as they were."""
    return [table for table in RESTART_ONLY if getattr(old, table) != getattr(new, table)]


def without_restart(old: Config, new: Config) -> Config:
    """Return the new configuration with the old values of what only a restart can change."""
    return new.model_copy(update={table: getattr(old, table) for table in RESTART_ONLY})
