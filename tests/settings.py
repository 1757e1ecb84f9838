"""A file of settings in a test: what it means, or what is wrong with it."""

import pytest

from asgid import config
from asgid.config import Config
from asgid.errors import ConfigError

APP = '[app]\ntarget = "a:b"\n'


def read(text: str, **arguments) -> Config:
    """Return what a file means that has an application before `text`, which begins on line 3."""
    return config.parse(APP + text, "f.toml", **arguments)


def problems(text: str | None, **arguments) -> list[str]:
    """Return every problem of a file, as the operator reads them."""
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "f.toml", **arguments)
    return [str(problem) for problem in caught.value.problems]


def problem(text: str, **arguments) -> str:
    """Return the only problem of a file that has an application before `text`."""
    (found,) = problems(APP + text, **arguments)
    return found
