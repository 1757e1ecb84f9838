"""The settings before validation: the content of a file with the overrides of the command line, and its problems.

Each value has an origin: a line of the file or an option. Problems are sorted by it, those of the command line last. No
name and no meaning of a setting is known here.
"""

import json
import re
from shlex import quote
from typing import Any, Self, TypeAlias

import tomli

from asgid.config import toml_lines
from asgid.config.toml_lines import KeyPath
from asgid.errors import ConfigError, Problem

#: 0 for the file or 1 for the command line; the order there; the place that a message names.
_Origin: TypeAlias = tuple[int, int, str]

#: Matches lines that are Python and not TOML.
_PYTHON = re.compile(r"^(?:import \w|from [\w.]+ import |(?:async )?def \w+\(|class \w)", re.MULTILINE)


class SettingsDocument:
    """The content of a file, the origin of each value, and the problems found so far."""

    def __init__(self, content: dict[str, Any], origins: dict[KeyPath, _Origin]) -> None:
        self.content = content
        self._origins = origins  # the origin of () is that of every value without one
        self._problems: list[tuple[_Origin, Problem]] = []

    @classmethod
    def read(cls, text: str | None, source: str) -> Self:
        """Return the document of the file `source`, an empty one if `text` is None.

        Raises ConfigError at once if the text is not TOML, because nothing else in it can be checked then.
        """
        if text is None:
            return cls({}, {(): (0, 0, source)})
        try:
            content = tomli.loads(text)
            lines = {(): 1, **toml_lines.line_numbers(text)}
        except tomli.TOMLDecodeError as error:
            fault = f"{error.msg[0].lower()}{error.msg[1:]}, column {error.colno}"
            raise ConfigError(Problem(f"{source}:{error.lineno}", "", _not_toml(text, source, fault))) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, hundreds of nested brackets
            raise ConfigError(Problem(f"{source}:1", "", f"this TOML cannot be read: {error}")) from None
        return cls(content, {path: (0, line, f"{source}:{line}") for path, line in lines.items()})

    def set(self, path: KeyPath, value: object, option: str) -> None:
        """Set the value at `path`, as `option` of the command line demands.

        Raises LookupError or TypeError if the content at `path` cannot hold a value.
        """
        *parents, key = path
        holder: Any = self.content
        for parent in parents:
            holder = holder.setdefault(parent, {}) if isinstance(holder, dict) else holder[parent]
        if isinstance(holder, list) and key == len(holder):
            holder.append(value)
        elif isinstance(holder, dict):
            holder[key] = value
        else:
            raise LookupError(path)
        self._origins = {at: origin for at, origin in self._origins.items() if at[: len(path)] != path}
        origin = (1, len(self._origins), option)
        self._origins[path] = origin
        for length in range(1, len(path)):  # tables that the file does not have
            self._origins.setdefault(path[:length], origin)

    def override(self, name: str, word: str, option: str = "") -> None:
        """Carry out `--set name=word`, or `option` if the operator wrote another one.

        A key of an array of tables is set in each table.
        """
        option = option or f"--set {name}"
        table, *keys = name.split(".")
        if not keys or not all((table, *keys)):
            self._refuse(Problem(option, "", "write --set table.key=value, such as --set timeouts.graceful=10s"))
            return
        items = self.content.get(table)
        tables = [(table, index) for index in range(len(items))] if isinstance(items, list) else [(table,)]
        try:
            value = read_word(word)
            for path in tables:
                self.set((*path, *keys), value, option)
        except (LookupError, TypeError):
            self._refuse(Problem(option, name, "there is no table to set it in"))
        except ValueError as error:
            if fixed := _with_quotes(word):
                self._refuse(Problem(option, name, f"the shell removed quotes; write --set {quote(f'{name}={fixed}')}"))
            else:
                self._refuse(Problem(option, name, str(error)))

    def add_problem(self, path: KeyPath, message: str) -> None:
        """Add a problem with the value at `path`, or with its absence. Its place is the nearest origin above."""
        origin = next(
            self._origins[path[:length]] for length in range(len(path), -1, -1) if path[:length] in self._origins
        )
        self._problems.append((origin, Problem(origin[-1], toml_lines.full_name(path), message)))

    def _refuse(self, problem: Problem) -> None:
        self._problems.append(((1, 0, problem.place), problem))

    def raise_problems(self) -> None:
        """Raise ConfigError with every problem, in order, if there are any."""
        if self._problems:
            raise ConfigError(*(problem for _, problem in sorted(self._problems, key=lambda found: found[0])))


def _with_quotes(word: str) -> str:
    """Return a list or table with the quotes that a shell has removed; "" if `word` is anything else."""

    def item(text: str) -> str:
        key, equals, value = text.strip().partition("=") if word[0] == "{" else ("", "", text.strip())
        return f"{key.strip()} = {json.dumps(value.strip())}" if equals else json.dumps(value)

    if (
        len(word) < 3
        or word[0] + word[-1] not in ("[]", "{}")
        or any(character in "[]{}\"'" for character in word[1:-1])
    ):
        return ""
    fixed = word[0] + ", ".join(map(item, word[1:-1].split(","))) + word[-1]
    try:
        tomli.loads(f"value = {fixed}")
    except ValueError:
        return ""
    return fixed


def read_word(word: str) -> object:
    """Return the value of `word` as TOML, or `word` itself if it is not TOML, so that text needs no quotes in a shell.

    Raises ValueError with the fix.
    """
    if any("\ud800" <= character <= "\udfff" for character in word):  # Python's stand-in for bytes that are not UTF-8
        raise ValueError("this is not UTF-8")
    try:
        document = tomli.loads(f"value = {word}")
    except (ValueError, RecursionError):
        if word[:1] in ("'", '"', "[", "{"):
            fix = "" if word[0] in "'\"" else f"; as text it is {quote(json.dumps(word, ensure_ascii=False))}"
            raise ValueError(f"neither a bare word nor a TOML value: {word}{fix}") from None
        return word
    return document["value"] if len(document) == 1 else word


def _not_toml(text: str, source: str, fault: str) -> str:
    """Return the message for a file that is not TOML; `fault` describes its first error."""
    if source.endswith(".py") or _PYTHON.search(text):
        return (
            "this looks like a Python program, such as gunicorn.conf.py, and asgid reads TOML: write "
            "asgid config --defaults for a file to start from; for a gunicorn setting in it, asgid names its own"
        )
    return f"this is not TOML: {fault}"
