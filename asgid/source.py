"""Where settings come from: a file or an application, with what else the command line says; read anew at every load.

This file does not know what a reload is, nor what is wrong with settings on this machine: who asks brings that along.
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

#: Finds what is wrong with settings that are right in themselves.
Faults: TypeAlias = Callable[[Config], Iterable[tuple[KeyPath, str]]]


@dataclass(frozen=True, slots=True)
class Source:
    """What the command line names. Where `path` is None, `target` is the application."""

    name: str  #: in messages
    path: Path | None  #: absolute, by the name of the place: the directory may be another one at a reload
    target: str | None
    binds: Sequence[str]
    workers: str | None  #: how many, as it was typed
    overrides: Mapping[str, str]  #: "table.key" -> a bare word or a TOML value
    faults: Faults
    place: str = ""  #: where relative paths begin, see `place_of_start`

    def load(self) -> Config:
        """Return the settings as they are now, for a start, which may wait for them; raises ConfigError.

        A deployment moves a link (`current`) to the next release. The link in `app.directory` is followed here, once
        for all workers of a generation: after a roll-back a replaced one imports the release that the others serve.
        """
        return self._resolved(self._parse(_read))

    def reload(self) -> Config:
        """Return the settings as they are now, for a master that serves, and waits for nothing; raises ConfigError."""
        return self._resolved(self._parse(_read_file))

    def written(self) -> Config:
        """Return the settings as they are written; raises ConfigError."""
        return self._parse(_read)

    def _parse(self, read: Callable[[Path], bytes]) -> Config:
        make_validators()
        return config.parse(
            self._text(read),
            self.name,
            overrides=self.overrides,
            binds=self.binds,
            target=self.target,
            workers=self.workers,
            machine_checks=lambda settings: self.faults(
                _with_directory(settings, self._anchored(settings.app.directory))
            ),
        )

    def _resolved(self, settings: Config) -> Config:
        directory = self._anchored(settings.app.directory)
        # Without a place it is the working directory that was removed, and has no name.
        return _with_directory(settings, os.path.realpath(directory) if os.path.isabs(directory) else directory)

    def _anchored(self, path: str) -> str:
        return os.path.join(self.place, path)

    def _text(self, read: Callable[[Path], bytes]) -> str | None:
        if self.path is None:
            return None
        try:
            data = read(self.path)
        except OSError as error:
            raise ConfigError(Problem(self.name, "", f"cannot be read: {error.strerror}")) from None
        try:
            return data.decode("utf-8-sig")  # some editors begin a file with a mark, which is no TOML
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigError(Problem(f"{self.name}:{line}", "", "this is not UTF-8, which TOML is")) from None


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _read_file(path: Path) -> bytes:
    """Return what is in a file. Raises OSError also for a FIFO or a device: its end comes when others let it come."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file, and a reload waits for nothing")
        return file.read()


def _with_directory(settings: Config, directory: str) -> Config:
    return settings.model_copy(update={"app": settings.app.model_copy(update={"directory": directory})})


def place_of_start(environ: Mapping[str, str]) -> str:
    """Return the working directory by the name that the shell has for it, with its links; "" if it was removed.

    The kernel knows only the directory itself: in a link that a deployment moves, a reload would read the old release.
    $PWD is believed while it leads to that directory, as by `pwd -L` (POSIX).
    """
    named = environ.get("PWD", "")
    try:
        if os.path.isabs(named) and not {".", ".."}.intersection(named.split("/")) and os.path.samefile(named, "."):
            return named
    except (OSError, ValueError):  # it leads nowhere, or is not a path at all
        pass
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def make_validators() -> None:
    """Make the validators of the settings, once."""
    with pydantic_plugins.disabled():
        Config.model_rebuild()
