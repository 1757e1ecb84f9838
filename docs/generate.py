"""Writes the documents that are generated from the code: `python -m docs.generate`, which `make docs` runs.

`tests/test_documents.py` fails if one of them is not current.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from asgid.config import reference
from docs import architecture, conformance, metrics, migrating, settings

ROOT = Path(__file__).resolve().parent.parent

#: File, from the root of the checkout -> the function that returns its text.
DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "etc/asgid.toml.example": reference.example_file,
    "docs/config.md": settings.page,
    "docs/metrics.md": metrics.page,
    "docs/migrating.md": migrating.page,
    "docs/architecture.md": architecture.page,
    "docs/conformance.md": conformance.page,
}


def main() -> None:
    for name, make in DOCUMENTS.items():
        (ROOT / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
