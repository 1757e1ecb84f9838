"""A reload in the master: reads the file, binds addresses, keeps generations, reports results.

The supervisor decides whether and when a reload goes on. This module changes the listeners, the process title and the
log. It reports each result in the log, on the status page, in the metrics and to systemd.
"""

import time
import traceback
from collections.abc import Callable

from setproctitle import setproctitle

from asgid.config import Config
from asgid.errors import ConfigError, UnavailableError
from asgid.log import Log
from asgid.master.resources import Resources
from asgid.master.status.collection import status_line
from asgid.master.status.history import ReloadResult, StatusHistory
from asgid.master.supervision import generations, steps
from asgid.master.supervision.generations import Generation
from asgid.master.supervision.lifecycle import Plan
from asgid.master.supervision.supervisor import Supervisor
from asgid.master.system.libraries import Libraries


class Reload:
    """The generations that have workers or may get some. `config` is the committed configuration."""

    def __init__(
        self,
        resources: Resources,
        supervisor: Supervisor,
        history: StatusHistory,
        load: Callable[[], Config],
        cpus: int,
    ) -> None:
        self.config = resources.config
        self.newest = 0  #: the highest generation number in use
        self._log, self._listeners, self._notifier = resources.log, resources.listeners, resources.notifier
        self._supervisor, self._history, self._load, self._cpus = supervisor, history, load, cpus
        self._generations: dict[int, Generation] = {}
        self._libraries = Libraries()

    def generation(self, number: int) -> Generation:
        return self._generations[number]

    def first_plan(self) -> Plan:
        """Return the plan of a start, under the current settings."""
        return self._new_plan(self.config)

    def resume(self, committed: int, newest: int) -> None:
        """Continue after an upgrade: generation `committed` is committed, and `newest` the highest number in use."""
        self.newest = newest
        self._generations[committed] = Generation(committed, self.config)
        self._set_title(committed)

    def prepare(self) -> Plan | None:
        """Read the file and bind new addresses. Return the plan for the supervisor; None if the reload was refused.

        Every error ends here: none of them may reach the workers that serve, or end the master.
        """
        number = self.newest + 1
        self._notifier.reloading(f"reloading, generation {number}")
        try:
            return self._load_and_bind()
        except ConfigError as error:
            for problem in error.problems:
                self._log.error("configuration refused", place=problem.place, key=problem.key, problem=problem.message)
            self._report_result("invalid_config", number, str(error.problems[0]))
        except UnavailableError as error:
            self._report_result("rolled_back", number, str(error))
        except Exception as error:  # noqa: BLE001 - a fault of asgid itself
            self._log.error("reload failed", stack=traceback.format_exc())
            self._report_result("invalid_config", number, f"a fault of asgid itself: {error!r}")
        return None

    def _load_and_bind(self) -> Plan:
        config = generations.with_systemd_sockets(self._load(), self._listeners.inherited)
        to_bind = generations.listeners_to_bind(config, self._listeners.addresses)
        kept = {listen.address for listen in config.listen} & self._listeners.addresses
        # may_wait=False: a resolver that does not answer can block for 30 s, and the loop may not block.
        for bound in self._listeners.open(to_bind, kept=kept, may_wait=False):
            self._log.info("listening", listener=bound.name, address=bound.local_address)
        if libraries := self._libraries.replaced():
            self._log.warning(
                "libraries replaced on disk: only USR2 loads the new ones", libraries=", ".join(libraries)
            )
        if tables := generations.tables_that_need_restart(self.config, config):
            self._log.warning("only a restart changes these settings", keys=", ".join(tables))
        return self._new_plan(generations.with_tables_kept(self.config, config))

    def _new_plan(self, config: Config) -> Plan:
        self.newest += 1
        self._generations[self.newest] = Generation(self.newest, config)
        return generations.make_plan(self.newest, config, self._cpus)

    # Steps

    def on_started(self, step: steps.ReloadStarted) -> None:
        if self._supervisor.rollout.committed:  # otherwise it is the start of the server
            self._log.info("reload started", generation=step.generation)

    def on_committed(self, step: steps.Committed) -> None:
        old, self.config = self.config, self._generations[step.generation].config
        for problem in self._listeners.apply_settings(self.config.listen):
            self._log.warning("listener not changed", problem=problem)
        self._set_title(step.generation)
        if step.generation > 1:
            self._report_result("committed", step.generation, "")
        if self.config.log != old.log:  # last, so that the result is still in the old log
            self._change_log()

    def on_rolled_back(self, step: steps.RolledBack, stack: str) -> None:
        """A reload has failed. `stack` shows where; it is "" if that is not known."""
        self._report_result("rolled_back", step.generation, step.reason, stack)

    def on_superseded(self, step: steps.Superseded) -> None:
        self._report_result("superseded", step.generation, "a newer configuration, or a stop, came first")

    def prune(self) -> None:
        """Drop the generations that no live worker and no plan uses, and close the listeners that only they used.

        After a stop no plan counts. When the last worker drains, only draining workers hold the sockets. Each of them
        closes its copies when the queue is empty, so a later client is refused, and does not wait for a reset.
        """
        supervisor = self._supervisor
        plans = [] if supervisor.is_stopping else supervisor.rollout.plans
        used = {plan.generation for plan in (*plans, *(worker.plan for worker in supervisor.live()))}
        if used >= self._generations.keys():
            return
        self._generations = {number: value for number, value in self._generations.items() if number in used}
        for address in generations.addresses_to_close(self._listeners.addresses, self._generations.values()):
            self._log.info("listener closed", listener=str(address))
            self._listeners.close([address])

    def _report_result(self, result: str, generation: int, reason: str, stack: str = "") -> None:
        self._history.record_reload(ReloadResult(result, reason, generation, time.time()))
        event, write = _RESULTS[result]
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

    def _set_title(self, generation: int) -> None:
        setproctitle(f"asgid: master [{self.config.process.name}] gen {generation}")


#: For each result of a reload: the log event, and its level.
_RESULTS = {
    "committed": ("reload committed", Log.info),
    "rolled_back": ("reload rolled back", Log.error),
    "invalid_config": ("reload refused", Log.error),
    "superseded": ("reload superseded", Log.warning),
}
