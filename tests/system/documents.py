"""Returns the settings, commands and queries that docs/ shows, so that the tests run the text that a reader copies."""

import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def block(start: str, replacements: Mapping[str, str]) -> str:
    """Return the code block of docs/operations.md that begins with `start`, with the `replacements` that a test needs.

    Raises AssertionError if a text to replace is missing: the document has changed, and the test must follow.
    """
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if block.startswith(start)]
    for old, new in replacements.items():
        assert old in found, f"{old!r} is not in {found!r}"
        found = found.replace(old, new)
    return str(found)


def installation() -> str:
    """Return the commands of systemd/README.md except the three for a virtual environment, which need a network."""
    text = (DOCS.parent / "systemd" / "README.md").read_text(encoding="utf-8")
    block = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[0]
    lines = block.splitlines()
    kept = [line for line in lines if not re.match(r"python3 -m venv /opt/myapp |/opt/myapp/bin/pip install ", line)]
    assert len(lines) - len(kept) == 3, block
    return "\n".join(kept)


def queries() -> list[str]:
    """Return the queries of docs/metrics.md."""
    return re.findall(r"^    (.*)$", (DOCS / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE)
