"""The lines of the keys in a TOML text."""

import pytest
import tomli

from asgid.config.toml_lines import line_numbers

CASES = {
    "tables and keys": (
        "a = 1\n[t]\nb = 2\n\n[t.u]\nc = 3\n",
        {("a",): 1, ("t",): 2, ("t", "b"): 3, ("t", "u"): 5, ("t", "u", "c"): 6},
    ),
    "dotted and quoted keys": (
        'a . \'b.c\' . "d\\u0065\\"" = 1\n[ x . "y z" ]\n',
        {("a",): 1, ("a", "b.c"): 1, ("a", "b.c", 'de"'): 1, ("x",): 2, ("x", "y z"): 2},
    ),
    "arrays of tables have an index, and so do their keys": (
        "[[l]]\nb = 1\n[l.sub]\nx = 1\n[[l]]\nb = 2\n[[l.sub]]\ny = 1\n",
        {
            ("l",): 1,
            ("l", 0): 1,
            ("l", 0, "b"): 2,
            ("l", 0, "sub"): 3,
            ("l", 0, "sub", "x"): 4,
            ("l", 1): 5,
            ("l", 1, "b"): 6,
            ("l", 1, "sub"): 7,
            ("l", 1, "sub", 0): 7,
            ("l", 1, "sub", 0, "y"): 8,
        },
    ),
    "arrays over several lines, with comments that look like keys": (
        "a = [ # b = 1\n  1,\n  # c = ]\n  [2,\n   3],\n]\nd = 1",
        {("a",): 1, ("a", 0): 2, ("a", 1): 4, ("a", 1, 0): 4, ("a", 1, 1): 5, ("d",): 7},
    ),
    "inline tables, also within arrays": (
        "a = [{ b = 1, c.d = { e = '}' } },\n {}, { b = [2] }]\nf = {}\n",
        {
            ("a",): 1,
            ("a", 0): 1,
            ("a", 0, "b"): 1,
            ("a", 0, "c"): 1,
            ("a", 0, "c", "d"): 1,
            ("a", 0, "c", "d", "e"): 1,
            ("a", 1): 2,
            ("a", 2): 2,
            ("a", 2, "b"): 2,
            ("a", 2, "b", 0): 2,
            ("f",): 3,
        },
    ),
    "strings of all kinds that look like TOML": (
        'a = "[x]\\" # \\\\"\nb = \'[y] "\\\'\nc = """\n[z]\n\\"" d = 1"""""\nd = \'\'\'\n# e = "\n\'\'\'\'\'\ne = 1\n',
        {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 6, ("e",): 9},
    ),
    "dates, numbers and line ends of Windows": (
        "a = 1979-05-27 07:32:00Z # b = 1\r\nc = -1.5e3\r\n[t]\r\nd = true\r\n",
        {("a",): 1, ("c",): 2, ("t",): 3, ("t", "d"): 4},
    ),
    "a table that is opened twice has its first line": (
        "[t.u]\nx = 1\n[t]\ny = 1\n",
        {("t",): 1, ("t", "u"): 1, ("t", "u", "x"): 2, ("t", "y"): 4},
    ),
    "nothing": ("# only a comment", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_key_and_item_has_its_line(name):
    text, expected = CASES[name]
    if name == "strings of all kinds that look like TOML":
        text = text.replace('\\"""" d = 1"""""', '\\"" d = 1"""""')
    tomli.loads(text)

    assert expected == line_numbers(text)


def test_a_text_that_is_not_toml_ends_the_scan():
    """The scanner requires valid TOML and raises AssertionError if it cannot continue."""
    with pytest.raises(AssertionError, match="line 2"):
        line_numbers("a = 1\n= 2")
