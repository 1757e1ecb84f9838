"""Where the keys of a TOML text stand: the path of every key, table and array item -> its line.

The TOML parser says what a text means and forgets where it said so; this scanner knows where and nothing of what. It
trusts that a parser has accepted the text, so it looks only for what can hold a key or hide one: comments, strings,
brackets and braces.
"""

import re
from bisect import bisect_left
from typing import TypeAlias

#: The way to a value from the top: names of keys, and indices of array items.
KeyPath: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# The longer quotes first. A multi-line string may end with two quotes of its own before the closing three.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\r\n]+")  # numbers, booleans and dates; a date may hold a space
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def full_name(path: KeyPath) -> str:
    """Return the full name of the key at `path`: `listen.bind` for every item of listen."""
    return ".".join(part for part in path if isinstance(part, str))


def line_numbers(text: str) -> dict[KeyPath, int]:
    """Return path -> line, counted from 1, for all that has a key or an index in `text`, which must be valid TOML.

    A table that is opened more than once (`[log]` by `[log.access]`, say) stands where it is first named.
    """
    scanner = _Scanner(text)
    scanner.scan_document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._newlines = [index for index, character in enumerate(text) if character == "\n"]
        self._last_item: dict[KeyPath, int] = {}  # arrays of tables -> index of the table that was opened last

    def scan_document(self) -> None:
        table: KeyPath = ()
        while following := self._next():
            if following == "[":
                table = self._take_header()
            else:
                self._take_pair(table)

    def _take_header(self) -> KeyPath:
        """Take `[a.b]` or `[[a.b]]`; return the path of the table it opens."""
        line = self._line()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        *parents, name = self._take_key()
        self._at += 2 if is_array else 1  # the brackets that close
        path: KeyPath = ()
        for parent in parents:
            path = self._open((*path, parent), line)
        path = (*path, name)
        if is_array:
            self._last_item[path] = self._last_item.get(path, -1) + 1
        return self._open(path, line)

    def _open(self, path: KeyPath, line: int) -> KeyPath:
        """Note the table at `path`; where that is an array of tables, go on to its last one."""
        self.lines.setdefault(path, line)
        if path in self._last_item:
            path = (*path, self._last_item[path])
            self.lines.setdefault(path, line)
        return path

    def _take_pair(self, path: KeyPath) -> None:
        line = self._line()
        for part in self._take_key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._at += 1  # "="
        self._take_value(path)

    def _take_value(self, path: KeyPath) -> None:
        opening = self._next()
        if opening in "[{":
            self._at += 1
            index = 0
            while (following := self._next()) not in "]}":
                if following == ",":
                    self._at += 1
                elif opening == "{":
                    self._take_pair(path)
                else:
                    self.lines[*path, index] = self._line()
                    self._take_value((*path, index))
                    index += 1
            self._at += 1  # the closing one
        else:
            self._take(_STRING if opening in "\"'" else _SCALAR)

    def _take_key(self) -> list[str]:
        """Take a key, its dots and the blanks around them."""
        parts = []
        while True:
            is_quoted = self._next() in "\"'"
            parts.append(_unquoted(self._take(_STRING)) if is_quoted else self._take(_BARE_KEY))
            if self._next() != ".":
                return parts
            self._at += 1

    def _next(self) -> str:
        """Skip blanks, line ends and comments; return the character that follows, "" at the end."""
        self._take(_BLANK)
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise AssertionError(f"line {self._line()} is no valid TOML: {self._text[self._at : self._at + 40]!r}")
        self._at = match.end()
        return match[0]

    def _line(self) -> int:
        return bisect_left(self._newlines, self._at) + 1


def _unquoted(token: str) -> str:
    if token.startswith("'"):
        return token[1:-1]
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1]) or _character(match[1]), token[1:-1])


def _character(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) > 1 else escape
