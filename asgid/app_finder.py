"""Finds the application that a source file seems to define, without running the file; used for hints only.

A hint must work when it is typed as printed, so an uncertain result is not suggested.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Usual names of an application and of the module that defines it, the most common first.
_APP_NAMES = ("app", "application", "asgi", "asgi_app", "api", "wsgi_app")
_MODULE_NAMES = ("main", "app", "application", "asgi", "server", "wsgi")
#: Classes and functions that return an application, besides names that end in "application" or "_app".
_APP_CLASSES = frozenset(
    {"FastAPI", "Starlette", "Flask", "Litestar", "Quart", "Sanic", "Falcon", "App", "ProtocolTypeRouter"}
)
_FACTORY_PREFIXES = ("create_", "make_", "build_", "get_")
_FACTORY_SUFFIXES = ("app", "application")


@dataclass(frozen=True)
class FoundApp:
    """An attribute of a module that is probably the application, or a factory that returns it."""

    attribute: str
    is_factory: bool = False


def is_factory_name(name: str) -> bool:
    """Return whether a function of this name probably returns an application."""
    return name.startswith(_FACTORY_PREFIXES) and name.endswith(_FACTORY_SUFFIXES)


def find_application(file: Path) -> FoundApp | None:
    """Return the only application that the file seems to define, None if there is none or more than one."""
    statements = [*_statements(_parse(file))]
    defined = {name for statement in statements for name in _defined_names(statement)}
    usual = [name for name in _APP_NAMES if name in defined]
    shaped = [name for statement in statements for name in _application_names(statement)]
    if found := usual or dict.fromkeys(shaped):
        return FoundApp(next(iter(found))) if usual or len(found) == 1 else None
    factories = [each.name for each in statements if isinstance(each, ast.FunctionDef) and is_factory_name(each.name)]
    return FoundApp(factories[0], is_factory=True) if len(factories) == 1 else None


def arguments_for(word: str, directory: Path) -> list[str]:
    """Return the command-line arguments for the application in the file or module `word`; [] if none is certain.

    The application's modules are searched in `directory`.
    """
    file: Path | None
    if word.endswith(".py"):
        folder, _, name = word.removesuffix(".py").rpartition("/")
        file = directory / word
        if folder and all((parent / "__init__.py").is_file() for parent in _parents_below(file, directory)):
            folder, name = "", word.removesuffix(".py").replace("/", ".")
    elif all(part.isidentifier() for part in word.split(".")):
        folder, name, file = "", word, source_file(word, directory)
        module, _, attribute = word.rpartition(".")
        if file is None and module and (found := source_file(module, directory)):
            names = {name for statement in _statements(_parse(found)) for name in _defined_names(statement)}
            if attribute in names:
                return [f"{module}:{attribute}"]
    else:
        return []
    app = find_application(file) if file and name.replace(".", "").isidentifier() else None
    if app is None:
        return []
    options = ["--set", "app.factory=true"] if app.is_factory else []
    return [f"{name}:{app.attribute}", *options, *(["--set", f"app.directory={folder}"] if folder else [])]


def arguments_for_directory(directory: Path) -> list[str]:
    """Return the command-line arguments for the application in `directory`; [] if no usual file defines one."""
    modules = [name for name in _MODULE_NAMES if source_file(name, directory)]
    modules += sorted(f"{file.parent.name}.asgi" for file in directory.glob("*/asgi.py"))
    found = [arguments for name in modules if (arguments := arguments_for(name, directory))]
    return found[0] if found else []


def source_file(module: str, directory: Path) -> Path | None:
    """Return the source file of a module below `directory`, None if it does not exist."""
    path = directory.joinpath(*module.split("."))
    return next((each for each in (path.with_name(f"{path.name}.py"), path / "__init__.py") if each.is_file()), None)


def _parents_below(file: Path, directory: Path) -> Iterator[Path]:
    """Yield the directories that contain the file, up to `directory`, which is not among them."""
    for parent in file.parents:
        if parent == directory:
            return
        yield parent


def _parse(file: Path) -> list[ast.stmt]:
    """Return the statements of a file; [] if it cannot be read or is not Python."""
    try:
        return ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when the module is imported, including those inside `if`, `try` and `with`."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, part, []))


def _defined_names(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.ImportFrom(names=names):
            yield from (each.asname or each.name for each in names)
        case ast.Assign(targets=targets):
            yield from (each.id for each in targets if isinstance(each, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            yield name


def _application_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that `statement` binds to a probable application, judged by its class or its parameters."""
    match statement:
        case ast.AsyncFunctionDef(name=name, args=ast.arguments(args=[_, _, _])):
            yield name
        case ast.FunctionDef(name=name, args=ast.arguments(args=[ast.arg(arg="environ"), _])):
            yield name
        case ast.Assign(value=ast.Call(func=function)) | ast.AnnAssign(value=ast.Call(func=function)):
            called = str(getattr(function, "attr", getattr(function, "id", "")))
            if called in _APP_CLASSES or called.lower().endswith(("application", "_app")):
                yield from _defined_names(statement)
