"""`python -m asgid`: the same program as `asgid`."""

import os
import sys


def _is_working_directory(path: str) -> bool:
    try:
        return path in ("", os.getcwd())
    except FileNotFoundError:  # the directory was removed
        return not path


# Before all other imports: Python has put the working directory first in sys.path. Another user may own a psutil.py
# there, and root would import it. A worker adds `app.directory` after it has dropped its privileges.
if not sys.flags.safe_path and _is_working_directory(sys.path[0]):
    del sys.path[0]

from asgid.cli import entry  # noqa: E402 - after sys.path is safe

entry()
