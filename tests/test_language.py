"""The English of docstrings, comments and documents stays plain: four groups of words are counted, with ceilings.

CONTRIBUTING.md has the rules of the language. A test can count only a part of them; a review reads the rest.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Words that make a sentence hard to read, as patterns. A question may begin with "what".
WORDS = {
    "who, nobody": re.compile(r"\b(?:who|whom|whose|whoever|nobody|somebody|anybody|everybody)\b", re.IGNORECASE),
    "what": re.compile(r"\bwhat\b(?![^.:;]*\?)", re.IGNORECASE),
    "says, tells": re.compile(
        r"\b(?:sa(?:ys?|id|ying)|tell(?:s|ing)?|told|hear(?:s|d|ing)?|speak(?:s|ing)?|spoken?)\b", re.IGNORECASE
    ),
    "lest, is no": re.compile(r"\b(?:lest|anew|mend(?:s|ed|ing)?|for ever|(?:is|are) no [a-z]+)\b", re.IGNORECASE),
}
#: A comment; strings are matched first, so that a # in them is none. Four times as fast as `tokenize`.
_COMMENT = re.compile(
    r"""(?s:\"{3}.*?\"{3}|'{3}.*?'{3})|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#(?P<comment>[^\n]*)"""
)
#: Files -> group -> occurrences in 1,000 words that are allowed. A ceiling may only fall: lower it when a count falls.
CEILINGS = {
    "package": {"who, nobody": 0.5, "what": 0.7, "says, tells": 0.1, "lest, is no": 0.1},
    "documents": {"who, nobody": 0.5, "what": 0.4, "says, tells": 0.1, "lest, is no": 0.1},
    "tests": {"who, nobody": 0.5, "what": 0.6, "says, tells": 0.1, "lest, is no": 0.1},
}
FILES = {
    "package": ("asgid/**/*.py",),
    "documents": ("*.md", "docs/**/*.md", "systemd/*.md", "examples/**/*.md", "benchmarks/README.md"),
    "tests": ("tests/**/*.py",),
}


def of_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield each docstring and each comment of a module with its line; instructions to a tool are not prose."""
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:  # statements only: an expression has no docstring
        node = nodes.pop(0)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            nodes += getattr(node, field, ())
    for found in _COMMENT.finditer(source):
        text = (found["comment"] or "").lstrip("#: ")
        if text and not text.startswith(("noqa", "type:", "ruff:")):
            yield source.count("\n", 0, found.start()) + 1, text


def of_document(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line of a document that is not in a block of code."""
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        is_code ^= line.startswith("```")
        if not is_code:
            yield number, line


@cache
def count(group: str) -> tuple[int, Counter[str], dict[str, list[str]]]:
    """Return the number of words in a group of files, how often each pattern occurs there, and the places."""
    words, counts = 0, Counter[str]()
    places: dict[str, list[str]] = {name: [] for name in WORDS}
    for path in sorted(path for pattern in FILES[group] for path in ROOT.glob(pattern)):
        name, read = path.relative_to(ROOT), of_python if path.suffix == ".py" else of_document
        for line, text in read(path.read_text(encoding="utf-8")):
            prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "x", text)
            words += len(prose.split())
            for group_of_words, pattern in WORDS.items():
                found = len(pattern.findall(prose))
                counts[group_of_words] += found
                places[group_of_words] += [f"{name}:{line}"] * found
    return words, counts, places


@pytest.mark.parametrize(
    ("files", "words"), [(files, words) for files, ceilings in CEILINGS.items() for words in ceilings]
)
def test_hard_words_become_no_more(files, words):
    """Rewrite the sentence, with the noun of the field as its subject; do not swap the word."""
    total, counts, places = count(files)
    rate = 1000 * counts[words] / total

    assert rate <= CEILINGS[files][words], f"{rate:.2f} in 1,000 words; all places: {' '.join(places[words])}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A client that reads nothing is closed.", {}),
        ("Who reads nothing is closed: nobody waits for it.", {"who, nobody": 2}),
        ("Return what was read.", {"what": 1}),
        ("What closes a connection? A deadline.", {}),
        ("The header says it, and the log tells of it.", {"says, tells": 2}),
        ("This is no socket, lest it be read anew.", {"lest, is no": 3}),
        ("This is not a socket.", {}),
    ],
)
def test_the_patterns_find_hard_words_only(text, found):
    """Each pattern is shown by a sentence that has its words, and by one that does not."""
    assert found == {name: n for name, pattern in WORDS.items() if (n := len(pattern.findall(text)))}


def test_code_is_not_counted():
    assert [(1, "A module."), (2, "why")] == list(of_python('"""A module."""\nX = 1  # why\nY = 2  # noqa: what\n'))
    assert [(1, "text")] == [row for row in of_document("text\n```\nwho\n```") if "```" not in row[1]]
