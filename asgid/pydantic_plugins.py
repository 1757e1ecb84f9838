"""Builds pydantic's validators without pydantic's plugins, which belong to the application and load in the workers.

Pydantic imports each installed plugin when it builds a validator: its code and threads would stay in the master.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_VARIABLE = "PYDANTIC_DISABLE_PLUGINS"
#: Pydantic imports this module to look for plugins. With importlib.metadata and zipfile, which it imports, it adds
#: 1.2 MB to the master. If pydantic renames it, the variable still disables the plugins.
_LOADER = "pydantic.plugin._loader"


@contextmanager
def disabled() -> Iterator[None]:
    """Disable the plugins inside the block, then restore pydantic and the operator's variable."""
    value_before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "__all__"
    loader = sys.modules.get(_LOADER)
    if loader is None:
        sys.modules[_LOADER] = stand_in = ModuleType(_LOADER)
        stand_in.__dict__["get_plugins"] = tuple
    try:
        yield
    finally:
        if loader is None:
            del sys.modules[_LOADER]
        del os.environ[_VARIABLE]
        if value_before is not None:
            os.environ[_VARIABLE] = value_before
