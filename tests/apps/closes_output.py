"""Closes standard output when it is imported."""

import os

from hello import application  # noqa: F401 - the target

os.close(1)
