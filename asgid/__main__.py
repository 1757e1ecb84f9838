"""`python -m asgid`: the same program as `asgid`."""

from asgid.cli import entry

entry()
