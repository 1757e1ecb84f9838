"""From one configuration to the next: the file is read, addresses are bound, generations are kept, verdicts are said.

Whether and when a transition goes on is the supervisor's to decide; this is what it brings about in the master itself:
listeners, title, log, and the verdict that an operator reads in the log, on the status page, in the metrics and from
systemd.
"""

import time
import traceback
from collections.abc import Callable

from setproctitle import setproctitle

from asgid.config import Config
from asgid.errors import ConfigError, UnavailableError
from asgid.log import Log
from asgid.master.resources import Holdings
from asgid.master.status.collection import status_line
from asgid.master.status.history import StatusHistory
from asgid.master.status.snapshot import ReloadResult
from asgid.master.supervision import generations, steps
from asgid.master.supervision.generations import Generation
from asgid.master.supervision.lifecycle import Plan
from asgid.master.supervision.supervisor import Supervisor
from asgid.master.system.libraries import Libraries


class Transitions:
    """The generations that are, were a moment ago, or want to be. `config` is the one in force."""

    def __init__(
        self, held: Holdings, supervisor: Supervisor, history: StatusHistory, load: Callable[[], Config], cpus: int
    ) -> None:
        self.config = held.config
        self.newest = 0  #: the last number that was given to a generation
        self._log, self._listeners, self._notifier = held.log, held.listeners, held.notifier
        self._supervisor, self._history, self._load, self._cpus = supervisor, history, load, cpus
        self._generations: dict[int, Generation] = {}
        self._libraries = Libraries()

    def of(self, number: int) -> Generation:
        return self._generations[number]

    def first(self) -> Plan:
        """Return the plan of a start, under the settings in force."""
        return self._next(self.config)

    def resume(self, committed: int, newest: int) -> None:
        """Go on where the program before this one gave way: generation `committed` is in force."""
        self.newest = newest
        self._generations[committed] = Generation(committed, self.config)
        self._entitle(committed)

    def prepare(self) -> Plan | None:
        """Read the file anew and bind what is new; return the plan for the supervisor, None where that was refused.

        It is a border: whatever goes wrong here, the workers that serve are no part of it, and the master lives on.
        """
        number = self.newest + 1
        self._notifier.reloading(f"reloading, generation {number}")
        try:
            return self._prepare()
        except ConfigError as error:
            for problem in error.problems:
                self._log.error("configuration refused", place=problem.place, key=problem.key, problem=problem.message)
            self._verdict("invalid_config", number, str(error.problems[0]))
        except UnavailableError as error:
            self._verdict("rolled_back", number, str(error))
        except Exception as error:  # noqa: BLE001 - a fault of asgid itself
            self._log.error("reload failed", stack=traceback.format_exc())
            self._verdict("invalid_config", number, f"a fault of asgid itself: {error!r}")
        return None

    def _prepare(self) -> Plan:
        config = generations.with_passed(self._load(), self._listeners.inherited)
        # A resolver that does not answer holds who asks for up to 30 s, and the loop waits for nothing.
        wanted = generations.to_bind(config, self._listeners.addresses)
        kept = {listen.address for listen in config.listen} & self._listeners.addresses
        opened = self._listeners.open(wanted, kept=kept, may_wait=False)
        for held in opened:
            self._log.info("listening", listener=held.name, address=held.local_address)
        if libraries := self._libraries.replaced():
            self._log.warning(
                "libraries replaced on disk: only USR2 loads the new ones", libraries=", ".join(libraries)
            )
        if keys := generations.needs_restart(self.config, config):
            self._log.warning("only a restart changes these settings", keys=", ".join(keys))
        return self._next(generations.without_restart(self.config, config))

    def _next(self, config: Config) -> Plan:
        self.newest += 1
        self._generations[self.newest] = Generation(self.newest, config)
        return generations.plan(self.newest, config, self._cpus)

    # Steps

    def began(self, step: steps.Began) -> None:
        if self._supervisor.rollout.committed:
            self._log.info("reload begun", generation=step.generation)

    def committed(self, step: steps.Committed) -> None:
        old, self.config = self.config, self._generations[step.generation].config
        for problem in self._listeners.apply_settings(self.config.listen):
            self._log.warning("listener not changed", problem=problem)
        self._entitle(step.generation)
        if step.generation > 1:
            self._verdict("committed", step.generation, "")
        if self.config.log != old.log:  # after the verdict, which the old log still says
            self._change_log()

    def rolled_back(self, step: steps.RolledBack, stack: str) -> None:
        """A reload has failed; `stack` is what led to that, "" if that is not known."""
        self._verdict("rolled_back", step.generation, step.reason, stack)

    def superseded(self, step: steps.Superseded) -> None:
        self._verdict("superseded", step.generation, "a newer configuration, or a stop, came first")

    def prune(self) -> None:
        """Forget generations that no live worker and no plan uses, and close listeners that only they had.

        After a stop no plan counts: when the last worker drains, only those who drain still hold the sockets, and each
        lets go of them when it has emptied the queue. Who connects later is refused instead of waiting for a reset.
        """
        supervisor = self._supervisor
        plans = [] if supervisor.is_stopping else supervisor.rollout.plans
        used = {plan.generation for plan in (*plans, *(worker.plan for worker in supervisor.live()))}
        if used >= self._generations.keys():
            return
        self._generations = {number: value for number, value in self._generations.items() if number in used}
        for address in generations.to_close(self._listeners.addresses, self._generations.values()):
            self._log.info("listener closed", listener=str(address))
            self._listeners.close([address])

    def _verdict(self, verdict: str, generation: int, reason: str, stack: str = "") -> None:
        """A reload has ended: report how, everywhere."""
        self._history.record_reload(ReloadResult(verdict, reason, generation, time.time()))
        event, write = _VERDICTS[verdict]
        details = {key: value for key, value in (("reason", reason), ("stack", stack)) if value}
        write(self._log, event, generation=generation, **details)
        if not self._supervisor.is_stopping:
            self._notifier.ready(status_line(self._history, self._supervisor))

    def _change_log(self) -> None:
        settings = self.config.log
        try:
            self._log.reconfigure(settings.level, settings.format, settings.output)
        except OSError as error:
            self._log.warning("log.output cannot be opened; the old one goes on", problem=str(error))

    def _entitle(self, generation: int) -> None:
        setproctitle(f"asgid: master [{self.config.process.name}] gen {generation}")


_VERDICTS = {
    "committed": ("reload committed", Log.info),
    "rolled_back": ("reload rolled back", Log.error),
    "invalid_config": ("reload refused", Log.error),
    "superseded": ("reload superseded", Log.warning),
}
