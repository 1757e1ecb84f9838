"""The application that a source file seems to define, found without running the file: only for hints.

A hint has to work when it is typed as printed, so what is in doubt is not suggested.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: What applications are called, the most usual name first.
_NAMES = ("app", "application", "asgi", "asgi_app", "api", "wsgi_app")
#: What is called to make one, beside a class or a function whose name ends in "application" or "app".
_MAKERS = frozenset(
    {"FastAPI", "Starlette", "Flask", "Litestar", "Quart", "Sanic", "Falcon", "App", "ProtocolTypeRouter"}
)
_FACTORY_BEGINS = ("create_", "make_", "build_", "get_")
_FACTORY_ENDS = ("app", "application")


@dataclass(frozen=True, slots=True)
class Guess:
    """What is probably meant: an attribute, which may be a factory."""

    attribute: str
    is_factory: bool = False


def is_factory_name(name: str) -> bool:
    """Whether a function of this name probably makes an application."""
    return name.startswith(_FACTORY_BEGINS) and name.endswith(_FACTORY_ENDS)


def application_in(file: Path) -> Guess | None:
    """Return the only application that the file seems to define, None if there is none or more than one."""
    statements = [*_statements(_parsed(file))]
    defined = {name for statement in statements for name in _defined(statement)}
    usual = [name for name in _NAMES if name in defined]
    shaped = [name for statement in statements for name in _applications(statement)]
    if found := usual or dict.fromkeys(shaped):
        return Guess(next(iter(found))) if usual or len(found) == 1 else None
    factories = [each.name for each in statements if isinstance(each, ast.FunctionDef) and is_factory_name(each.name)]
    return Guess(factories[0], is_factory=True) if len(factories) == 1 else None


def words_for(word: str, directory: Path) -> list[str]:
    """Return the words of a command line that name the application in the file or module `word`; [] if that is unknown.

    `directory` is where the application's modules are searched.
    """
    file: Path | None
    if word.endswith(".py"):
        folder, _, name = word.removesuffix(".py").rpartition("/")
        file = directory / word
        if folder and all((above / "__init__.py").is_file() for above in _above(directory / word, directory)):
            folder, name = "", word.removesuffix(".py").replace("/", ".")
    elif all(part.isidentifier() for part in word.split(".")):
        folder, name, file = "", word, file_of(word, directory)
        parent, _, last = word.rpartition(".")
        if file is None and parent and (above := file_of(parent, directory)) and last in _names_in(above):
            return [f"{parent}:{last}"]
    else:
        return []
    guess = application_in(file) if file and name.replace(".", "").isidentifier() else None
    if guess is None:
        return []
    more = ["--set", "app.factory=true"] if guess.is_factory else []
    return [f"{name}:{guess.attribute}", *more, *(["--set", f"app.directory={folder}"] if folder else [])]


def words_here(directory: Path) -> list[str]:
    """Return the words that name the application of a directory; [] if none is in a usual place."""
    usual = [name for name in ("main", "app", "application", "asgi", "server", "wsgi") if file_of(name, directory)]
    deeper = sorted(f"{file.parent.name}.asgi" for file in directory.glob("*/asgi.py"))
    found = [words for name in (*usual, *deeper) if (words := words_for(name, directory))]
    return found[0] if found else []


def _above(file: Path, directory: Path) -> Iterator[Path]:
    """Yield the directories between a file and the directory where modules are searched."""
    for above in file.parents:
        if above == directory:
            return
        yield above


def file_of(module: str, directory: Path) -> Path | None:
    """Return the source file of a module below the directory, None if it is not there."""
    path = directory.joinpath(*module.split("."))
    return next((each for each in (path.with_name(f"{path.name}.py"), path / "__init__.py") if each.is_file()), None)


def _names_in(file: Path) -> set[str]:
    return {name for statement in _statements(_parsed(file)) for name in _defined(statement)}


def _parsed(file: Path) -> list[ast.stmt]:
    """Return the statements of a file; none if it cannot be read, or is not Python."""
    try:
        return ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when the module is imported, also those inside `if`, `try` and `with`."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, part, []))


def _defined(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.ImportFrom(names=names):
            yield from (each.asname or each.name for each in names)
        case ast.Assign(targets=targets):
            yield from (each.id for each in targets if isinstance(each, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            yield name


def _applications(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement gives to what looks like an application."""
    match statement:
        case ast.AsyncFunctionDef(name=name, args=ast.arguments(args=[_, _, _])):
            yield name
        case ast.FunctionDef(name=name, args=ast.arguments(args=[ast.arg(arg="environ"), _])):
            yield name
        case ast.Assign(value=ast.Call(func=function)) | ast.AnnAssign(value=ast.Call(func=function)):
            called = str(getattr(function, "attr", getattr(function, "id", "")))
            if called in _MAKERS or called.lower().endswith(("application", "_app")):
                yield from _defined(statement)
