"""The last words of a worker: a memory file for stacks, which the master reads after the worker has ended."""

import faulthandler
import os

from asgid import descriptors
from asgid.assignment import DUMP


class LastWords:
    """The file; the application may close it, and open another file with its number."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._identity = descriptors.identity(descriptor)

    def write(self, text: str) -> None:
        """Replace the content by `text`; faulthandler appends to it. If the file is another one now, write no more."""
        if descriptors.identity(self.descriptor) != self._identity:
            faulthandler.unregister(DUMP)
            faulthandler.disable()
            return
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        os.write(self.descriptor, text.encode("utf-8", "backslashreplace"))
