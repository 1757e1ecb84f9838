"""The settings: `parse` makes a `Config` from a text, or reports every problem.

A key without effect is refused, never ignored. All problems are found in one pass, each with its place. No file is read
here, and nothing on this machine is checked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from shlex import quote

from pydantic import ValidationError

from asgid.config.cross_checks import find_contradictions
from asgid.config.document import SettingsDocument
from asgid.config.reserved_keys import find_reserved
from asgid.config.tables import Config
from asgid.config.toml_lines import KeyPath

__all__ = ["Config", "parse"]


def parse(
    text: str | None,
    source: str,
    *,
    overrides: Mapping[str, str] | None = None,
    binds: Sequence[str] = (),
    target: str | None = None,
    workers: str | None = None,
    machine_checks: Callable[[Config], Iterable[tuple[KeyPath, str]]] = lambda _: (),
) -> Config:
    """Return the settings in `text`, a TOML document; raises ConfigError with every problem, in the order of the file.

    `source` is the file's name, for messages; without a file, `text` is None. The command line gives `overrides`
    ("table.key" -> a bare word or a TOML value; a key of listen is set in each [[listen]] table), `binds` (which
    replace all [[listen]] tables), `target` and `workers` (a number, as it was typed). `machine_checks` yields the
    problems of valid settings on this machine.
    """
    document = SettingsDocument.read(text, source)
    if target is not None:
        document.set(("app", "target"), target, "the command line")
    if binds:
        document.set(("listen",), [], "-b")
        for index, bind in enumerate(binds):
            document.set(("listen", index), {"bind": bind}, f"-b {bind}")
    document.content.setdefault("listen", [{}])
    if workers is not None:
        document.override("workers.count", workers, f"-w {quote(workers)}")
    for name, word in (overrides or {}).items():
        document.override(name, word)
    try:
        config = Config.model_validate(document.content)
        problems = machine_checks(config)
    except ValidationError as error:
        from asgid.config.suggestions import describe_error  # noqa: PLC0415 - only mistakes need it

        problems = [(detail["loc"], describe_error(detail)) for detail in error.errors(include_url=False)]
    for path, message in chain(problems, find_reserved(document.content), find_contradictions(document.content)):
        document.add_problem(path, message)
    document.raise_problems()
    return config
