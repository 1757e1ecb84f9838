"""Maps the path of every key, table and array item of a TOML text to its line.

The TOML parser does not report lines. This scanner does, and reads no values. It requires a text that a parser has
accepted, so it looks only for keys, comments, strings, brackets and braces.
"""

import re
from bisect import bisect_left
from typing import TypeAlias

#: The path to a value: names of keys and indices of array items.
KeyPath: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# Triple quotes first. A multi-line string may have two quotes of its own before the closing three.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\r\n]+")  # numbers, booleans and dates; a date may contain a space
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def full_name(path: KeyPath) -> str:
    """Return the full name of the key at `path`: `listen.bind` for every item of listen."""
    return ".".join(part for part in path if isinstance(part, str))


def line_numbers(text: str) -> dict[KeyPath, int]:
    """Return path -> line, counted from 1, for each key and array item in `text`, which must be valid TOML.

    A table that is opened more than once, such as `[log]` by `[log.access]`, has the line where it is first named.
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
        self._last_item: dict[KeyPath, int] = {}  # array of tables -> index of its last table

    def scan_document(self) -> None:
        table: KeyPath = ()
        while next_character := self._next():
            if next_character == "[":
                table = self._read_header()
            else:
                self._read_pair(table)

    def _read_header(self) -> KeyPath:
        """Consume `[a.b]` or `[[a.b]]`; return the path of the table that it opens."""
        line = self._line()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        *parents, name = self._read_key()
        self._at += 2 if is_array else 1  # the closing brackets
        path: KeyPath = ()
        for parent in parents:
            path = self._open((*path, parent), line)
        path = (*path, name)
        if is_array:
            self._last_item[path] = self._last_item.get(path, -1) + 1
        return self._open(path, line)

    def _open(self, path: KeyPath, line: int) -> KeyPath:
        """Record the line of the table at `path`. Returns the path, or that of the last table if it is an array."""
        self.lines.setdefault(path, line)
        if path in self._last_item:
            path = (*path, self._last_item[path])
            self.lines.setdefault(path, line)
        return path

    def _read_pair(self, path: KeyPath) -> None:
        line = self._line()
        for part in self._read_key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._at += 1  # "="
        self._read_value(path)

    def _read_value(self, path: KeyPath) -> None:
        opening = self._next()
        if opening in "[{":
            self._at += 1
            index = 0
            while (next_character := self._next()) not in "]}":
                if next_character == ",":
                    self._at += 1
                elif opening == "{":
                    self._read_pair(path)
                else:
                    self.lines[*path, index] = self._line()
                    self._read_value((*path, index))
                    index += 1
            self._at += 1  # the closing bracket or brace
        else:
            self._consume(_STRING if opening in "\"'" else _SCALAR)

    def _read_key(self) -> list[str]:
        """Consume a dotted key with the blanks around its dots; return its parts."""
        parts = []
        while True:
            is_quoted = self._next() in "\"'"
            parts.append(_unquote(self._consume(_STRING)) if is_quoted else self._consume(_BARE_KEY))
            if self._next() != ".":
                return parts
            self._at += 1

    def _next(self) -> str:
        """Skip blanks, line ends and comments; return the next character, "" at the end."""
        self._consume(_BLANK)
        return self._text[self._at : self._at + 1]

    def _consume(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise AssertionError(f"line {self._line()} is not valid TOML: {self._text[self._at : self._at + 40]!r}")
        self._at = match.end()
        return match[0]

    def _line(self) -> int:
        return bisect_left(self._newlines, self._at) + 1


def _unquote(token: str) -> str:
    if token.startswith("'"):
        return token[1:-1]
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1]) or _unescape(match[1]), token[1:-1])


def _unescape(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) > 1 else escape
