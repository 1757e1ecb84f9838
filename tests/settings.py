"""Parses a file of settings in a test: its Config, its problems, or the supervisor's plan of it."""

from dataclasses import replace

import pytest

from asgid import config
from asgid.config import Config
from asgid.errors import ConfigError
from asgid.master.supervision.generations import make_plan
from asgid.master.supervision.lifecycle import Plan

APP = '[app]\ntarget = "a:b"\n'


def read(text: str, **arguments) -> Config:
    """Return the settings of a file with an application and then `text`, which begins on line 3."""
    return config.parse(APP + text, "f.toml", **arguments)


def problems(text: str | None, **arguments) -> list[str]:
    """Return every problem of a file as the operator sees it."""
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "f.toml", **arguments)
    return [str(problem) for problem in caught.value.problems]


def problem(text: str, **arguments) -> str:
    """Return the only problem of a file with an application and then `text`."""
    (found,) = problems(APP + text, **arguments)
    return found


def plan_of(generation: int, wanted: int, **changes) -> Plan:
    """Return the plan of the default settings for `wanted` workers, with `changes`."""
    return replace(make_plan(generation, read(""), cpus=wanted), **changes)
