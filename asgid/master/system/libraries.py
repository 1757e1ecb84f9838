"""Libraries that were replaced on disk after the master had imported them: every worker is forked with the old ones.

A reload imports the application anew, so `pip install -U` and HUP look complete: a library that asgid itself imports,
pydantic for one, stays the old one all the same. This file does not know what a reload is.
"""

import os
import sys
from typing import TypeAlias

_Identity: TypeAlias = tuple[int, int] | None  # time of change and size, None if there is no file


class Libraries:
    """The files of all modules that are imported now, of Python's own library only one."""

    def __init__(self) -> None:
        self._imported = {path: (library, _identity(path)) for path, library in _modules().items()}

    def replaced(self) -> list[str]:
        """Return the names of the libraries whose files differ from those that were imported (1 ms)."""
        files = self._imported.items()
        return sorted({library for path, (library, imported) in files if imported and _identity(path) != imported})


def _modules() -> dict[str, str]:
    """Return the library of each file."""
    found = {os.__file__: "Python"}
    for name, module in list(sys.modules.items()):
        library = name.partition(".")[0]
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and library != "__main__" and library not in sys.stdlib_module_names:
            found[path] = library
    return found


def _identity(path: str) -> _Identity:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
