"""A file on its way to settings: what was written, what the command line laid over it, and where each of it was said.

Every problem has the place of the nearest thing that was said; they come out in the order of the file, and behind them
those of the command line. This file does not know which keys there are, nor what their values mean.
"""

from typing import Any, Self, TypeAlias

import tomli

from asgid.config import toml_lines
from asgid.config.other_servers import read_word
from asgid.config.suggestions import not_toml
from asgid.config.toml_lines import KeyPath
from asgid.errors import ConfigError, Problem

_Place: TypeAlias = tuple[
    int, int, str
]  # 0 the file, 1 the command line; its order there; as it is called in a message


class Draft:
    """A document, the places of what is in it, and the problems found with it."""

    def __init__(self, document: dict[str, Any], places: dict[KeyPath, _Place]) -> None:
        self.document = document
        self._places = places  # with the empty path, for what stands nowhere
        self._problems: list[tuple[_Place, Problem]] = []

    @classmethod
    def read(cls, text: str | None, source: str) -> Self:
        """Return what the file `source` says, nothing if `text` is None: there is no file.

        Raises ConfigError at once if it is no TOML, for nothing else in it can be judged.
        """
        if text is None:
            return cls({}, {(): (0, 0, source)})
        try:
            document = tomli.loads(text)
            lines = {(): 1, **toml_lines.line_numbers(text)}
        except tomli.TOMLDecodeError as error:
            fault = f"{error.msg[0].lower()}{error.msg[1:]}, column {error.colno}"
            raise ConfigError(Problem(f"{source}:{error.lineno}", "", not_toml(text, source, fault))) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, hundreds of nested brackets
            raise ConfigError(Problem(f"{source}:1", "", f"this TOML cannot be read: {error}")) from None
        return cls(document, {path: (0, line, f"{source}:{line}") for path, line in lines.items()})

    def put(self, path: KeyPath, value: object, said: str) -> None:
        """Set what stands at `path`, because of `said` on the command line; raises LookupError or TypeError if what
        stands there holds no such thing.
        """
        *parents, key = path
        holder: Any = self.document
        for parent in parents:
            holder = holder.setdefault(parent, {}) if isinstance(holder, dict) else holder[parent]
        if isinstance(holder, list) and key == len(holder):
            holder.append(value)
        elif isinstance(holder, dict):
            holder[key] = value
        else:
            raise LookupError(path)
        self._places = {at: place for at, place in self._places.items() if at[: len(path)] != path}
        place = (1, len(self._places), said)
        self._places[path] = place
        for length in range(1, len(path)):  # a table that nobody wrote before
            self._places.setdefault(path[:length], place)

    def override(self, name: str, word: str, said: str = "") -> None:
        """Carry out `--set name=word`, or what was `said` instead; in an array of tables it reaches every one."""
        said = said or f"--set {name}"
        table, *keys = name.split(".")
        if not keys or not all((table, *keys)):
            self._refuse(Problem(said, "", "write --set table.key=value, such as --set timeouts.graceful=10s"))
            return
        items = self.document.get(table)
        tables = [(table, index) for index in range(len(items))] if isinstance(items, list) else [(table,)]
        try:
            value = read_word(word)
            for path in tables:
                self.put((*path, *keys), value, said)
        except (LookupError, TypeError):
            self._refuse(Problem(said, name, "there is no table to set it in"))
        except ValueError as error:
            self._refuse(Problem(said, name, str(error)))

    def note(self, path: KeyPath, message: str) -> None:
        """Note what is wrong with the value at `path`, or with its absence there."""
        place = next(
            self._places[path[:length]] for length in range(len(path), -1, -1) if path[:length] in self._places
        )
        self._problems.append((place, Problem(place[-1], toml_lines.full_name(path), message)))

    def _refuse(self, problem: Problem) -> None:
        self._problems.append(((1, 0, problem.place), problem))

    def judge(self) -> None:
        """Raise ConfigError with every problem that was noted, if there is one."""
        if self._problems:
            raise ConfigError(*(problem for _, problem in sorted(self._problems, key=lambda found: found[0])))
