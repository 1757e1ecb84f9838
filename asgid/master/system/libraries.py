"""Libraries that were replaced on disk after the master imported them; forked workers have the old version.

A reload imports the application again, so `pip install -U` and HUP seem to be enough. But a library that asgid itself
imports, such as pydantic, stays the old one. This file does not know reloads.
"""

import os
import sys
from typing import TypeAlias

_Identity: TypeAlias = tuple[int, int] | None  # modification time and size; None if the file is missing


class Libraries:
    """The files of all modules that are imported now; os.py stands for the standard library."""

    def __init__(self) -> None:
        self._imported = {path: (library, _identity(path)) for path, library in _modules().items()}

    def replaced(self) -> list[str]:
        """Return the libraries with a file that differs from the imported one (1 ms)."""
        files = self._imported.items()
        return sorted({library for path, (library, imported) in files if imported and _identity(path) != imported})


def _modules() -> dict[str, str]:
    """Return the library of each file, by path."""
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
