"""The source of the settings: a file or an application, with the options of the command line; read at every load.

The caller supplies the checks of this machine.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from asgid import config, pydantic_plugins
from asgid.config import Config
from asgid.config.toml_lines import KeyPath
from asgid.errors import ConfigError, Problem

#: Yields path and message of each problem that valid settings have on this machine.
MachineChecks: TypeAlias = Callable[[Config], Iterable[tuple[KeyPath, str]]]


@dataclass(frozen=True)
class Source:
    """The file and the options of a command line. If `path` is None, `target` is the application."""

    name: str  #: for messages
    path: Path | None  #: absolute, below `start_directory`: at a reload, its links may lead to another directory
    target: str | None
    binds: Sequence[str]
    workers: str | None  #: the number of workers, as it was typed
    overrides: Mapping[str, str]  #: "table.key" -> a bare word or a TOML value
    machine_checks: MachineChecks
    start_directory: str = ""  #: relative paths begin there

    def load(self) -> Config:
        """Return the current settings for a start, which may wait for the file; raises ConfigError.

        A deployment moves a link (`current`) to the next release. The link in `app.directory` is resolved here, once
        for all workers of a generation: a worker that is replaced after a roll-back must import the old release too.
        """
        return self._with_real_directory(self._parse(_read))

    def reload(self) -> Config:
        """Return the current settings for a running master, without waiting for the file; raises ConfigError."""
        return self._with_real_directory(self._parse(_read_regular_file))

    def load_unresolved(self) -> Config:
        """Return the current settings with `app.directory` as it is written; raises ConfigError."""
        return self._parse(_read)

    def _parse(self, read: Callable[[Path], bytes]) -> Config:
        build_validators()
        return config.parse(
            self._text(read),
            self.name,
            overrides=self.overrides,
            binds=self.binds,
            target=self.target,
            workers=self.workers,
            machine_checks=lambda settings: self.machine_checks(
                _with_directory(settings, self._absolute(settings.app.directory))
            ),
        )

    def _with_real_directory(self, settings: Config) -> Config:
        directory = self._absolute(settings.app.directory)
        # Without a start directory, a relative path is below a removed directory.
        return _with_directory(settings, os.path.realpath(directory) if os.path.isabs(directory) else directory)

    def _absolute(self, path: str) -> str:
        return os.path.join(self.start_directory, path)

    def _text(self, read: Callable[[Path], bytes]) -> str | None:
        if self.path is None:
            return None
        try:
            data = read(self.path)
        except OSError as error:
            raise ConfigError(Problem(self.name, "", f"cannot be read: {error.strerror}")) from None
        try:
            return data.decode("utf-8-sig")  # some editors write a byte order mark, which is not TOML
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigError(Problem(f"{self.name}:{line}", "", "this is not UTF-8; TOML must be")) from None


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _read_regular_file(path: Path) -> bytes:
    """Return the content of a file. Raises OSError for a FIFO or a device too, which could block the master."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file, and a reload must not wait")
        return file.read()


def _with_directory(settings: Config, directory: str) -> Config:
    return settings.model_copy(update={"app": settings.app.model_copy(update={"directory": directory})})


def find_start_directory(environ: Mapping[str, str]) -> str:
    """Return the path of the working directory with its links, as the shell has it; "" if it was removed.

    The kernel returns a path without links: after a deployment has moved one, a reload would read the old release.
    $PWD is used if it leads to the working directory, as `pwd -L` does (POSIX).
    """
    path = environ.get("PWD", "")
    try:
        if os.path.isabs(path) and not {".", ".."}.intersection(path.split("/")) and os.path.samefile(path, "."):
            return path
    except (OSError, ValueError):  # it does not exist, or is not a path
        pass
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def build_validators() -> None:
    """Build the validators of the settings, once."""
    with pydantic_plugins.disabled():
        Config.model_rebuild()
