"""Pydantic without its plugins: what is installed for the application's models is the workers' to load.

Pydantic brings them in with every validator that it makes: a package's code, and its threads, in the master.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_DISABLED = "PYDANTIC_DISABLE_PLUGINS"
#: Pydantic imports it when it makes a validator, to look for plugins. It imports importlib.metadata and zipfile, which
#: take 1.2 MB in the master. If pydantic renames it, the variable still leaves the plugins out.
_LOADER = "pydantic.plugin._loader"


@contextmanager
def left_out() -> Iterator[None]:
    """Make validators without plugins; afterwards pydantic and the operator's variable are as before."""
    said = os.environ.get(_DISABLED)
    os.environ[_DISABLED] = "__all__"
    loader = sys.modules.get(_LOADER)
    if loader is None:
        sys.modules[_LOADER] = stand_in = ModuleType(_LOADER)
        stand_in.__dict__["get_plugins"] = tuple
    try:
        yield
    finally:
        if loader is None:
            del sys.modules[_LOADER]
        del os.environ[_DISABLED]
        if said is not None:
            os.environ[_DISABLED] = said
