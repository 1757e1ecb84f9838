"""Pydantic without its plugins: what is installed for the application's models is the workers' to load.

Pydantic brings them in with every validator that it makes: a package's code, and its threads, in the master.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_DISABLED = "PYDANTIC_DISABLE_PLUGINS"


@contextmanager
def left_out() -> Iterator[None]:
    """Let validators be made without plugins; what the operator says of them in the environment is as before then."""
    said = os.environ.get(_DISABLED)
    os.environ[_DISABLED] = "__all__"
    try:
        yield
    finally:
        del os.environ[_DISABLED]
        if said is not None:
            os.environ[_DISABLED] = said
