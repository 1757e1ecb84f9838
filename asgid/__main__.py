"""`python -m asgid`: the same program as `asgid`."""

import os
import sys


def _is_here(place: str) -> bool:
    try:
        return place in ("", os.getcwd())
    except FileNotFoundError:  # it was removed
        return not place


# First of all: Python has put the working directory before all else, and a psutil.py there may be somebody else's, such
# as that of the user whom root starts a server for. A worker adds `app.directory` when it is that user.
if not sys.flags.safe_path and _is_here(sys.path[0]):
    del sys.path[0]

from asgid.cli import entry  # noqa: E402 - that was first

entry()
