"""The command line: runs the command that the arguments select (run, check, config, version), and exits.

Only this module exits, and only this module imports both the master and the worker. Slow imports are inside functions:
until the signals are blocked, a signal kills the program.
"""

# ruff: noqa: PLC0415, T201 - imports are late on purpose, and this module writes to a terminal

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from asgid.command_signals import COMMANDS

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from asgid.config import Config
    from asgid.config.toml_lines import KeyPath
    from asgid.errors import ExitCode
    from asgid.master.replace.new_program import Command
    from asgid.source import MachineChecks, Source

_COMMAND_LINE = "the command line"
_EPILOG = """\
commands:
  asgid check -c FILE   validate a file and name every problem in it; with --boot, start the application once too
  asgid config -c FILE  show the settings in force; with --schema or --defaults, the JSON Schema or an example file

`asgid config --defaults > asgid.toml` makes a file to start from.
"""


class Arguments:
    """The arguments of a command line; argparse sets them. `action` runs the command."""

    action: Callable[[Arguments], ExitCode]
    application: str | None
    file: str | None
    bind: list[str]
    workers: str | None
    set: list[tuple[str, str]]
    boot: bool
    takes_over: int | None
    schema: bool
    defaults: bool


def entry() -> NoReturn:
    """Run `asgid` or `python -m asgid`; exit with its code."""
    # Before the import of pydantic, which takes 0.1 s. A signal that arrives from here on stays pending until the
    # master has its handlers and unblocks it.
    signal.pthread_sigmask(signal.SIG_BLOCK, COMMANDS)
    code = main(sys.argv[1:])
    # Python restores the default actions of signals while it exits.
    signal.pthread_sigmask(signal.SIG_BLOCK, COMMANDS)
    sys.exit(code)


def main(argv: Sequence[str]) -> ExitCode:
    """Run the command that the arguments select; return the exit code."""
    from asgid.errors import ConfigError, ExitCode, UnavailableError

    try:
        arguments = _parse(argv)
    except SystemExit as stop:  # raised by argparse after it has printed help or an error
        return ExitCode.USAGE if stop.code else ExitCode.OK
    try:
        return ExitCode(arguments.action(arguments))
    except ConfigError as error:
        count = "one problem" if len(error.problems) == 1 else f"{len(error.problems)} problems"
        print(f"asgid: {count} in {arguments.file or _COMMAND_LINE}", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return ExitCode.CONFIG
    except UnavailableError as error:
        print(f"asgid: {error}", file=sys.stderr)
        return ExitCode.UNAVAILABLE
    except Exception:  # noqa: BLE001 - the border of the program
        import traceback

        traceback.print_exc()
        print("asgid: this is a bug in asgid; please report it with the lines above", file=sys.stderr)
        return ExitCode.INTERNAL


# -- commands ----------------------------------------------------------------------------------------------------------


def _run(arguments: Arguments) -> ExitCode:
    # Importing the worker's modules before the fork shares their memory and shortens a worker's start.
    import asgid.master.main
    import asgid.worker.main
    from asgid.source import build_validators

    build_validators()  # a program that takes over reads the old settings before its file
    source = _source(arguments, _start_checks)
    return asgid.master.main.run(source.load, source.reload, asgid.worker.main.main, _program())


def _program() -> Command:
    """Return the commands that run and try the program that replaces this one on disk."""
    from asgid.master.replace.new_program import TRIAL_FD, Command
    from asgid.source import find_start_directory

    directory = find_start_directory(os.environ)
    words = sys.argv[1:]
    interpreter = sys.orig_argv[: len(sys.orig_argv) - len(words)]
    if len(interpreter) == 2 and os.access(sys.argv[0], os.X_OK):
        # A script with its interpreter in the first line: the new script may have another interpreter.
        command = [os.path.join(directory, sys.argv[0])]
    else:
        command = [sys.executable, *_with_safe_path(interpreter[1:])]
    trial = ["check", "--boot", f"--takes-over={TRIAL_FD}"]
    return Command((*command, *words), (*command, *trial, *words), directory)


def _with_safe_path(options: Sequence[str]) -> list[str]:
    """Return the interpreter's options with -P, so that it imports nothing from the working directory.

    Python imports modules before the first line of asgid, so a user that can write to that directory could replace
    them. Without -P if asgid itself is imported from there, as in a checkout.
    """
    is_in_working_directory = os.path.dirname(os.path.dirname(__file__)) == os.path.realpath(".")
    return [*options] if sys.flags.safe_path or is_in_working_directory else ["-P", *options]


def _check(arguments: Arguments) -> ExitCode:
    from asgid.errors import BootError, ExitCode

    _restore_default_signals()
    source = _source(arguments)
    name, config = source.name, source.load()
    if arguments.takes_over is not None:
        from asgid import descriptors

        arguments.takes_over = descriptors.own(arguments.takes_over)  # the worker closes it: it could forge a receipt
        _check_takeover(arguments.takes_over)
    verdict = "ok"
    if arguments.boot:
        import asgid.master.workers.trial
        import asgid.worker.main
        from asgid.master.replace.new_program import FAILURE_PREFIX

        try:
            verdict = f"ok, boots as {asgid.master.workers.trial.boot_once(config, asgid.worker.main.main)}"
        except BootError as error:
            print(f"{name}: {config.app.target} {FAILURE_PREFIX} {error}", file=sys.stderr)
            if error.story:
                print(error.story, file=sys.stderr)
            return ExitCode.NO_WORKER
    if arguments.takes_over is not None:  # last: the receipt confirms that every check has passed
        from asgid.master.replace import new_program

        new_program.write_receipt(arguments.takes_over)
    listeners = ", ".join(listen.bind for listen in config.listen)
    metrics = config.metrics.bind if config.metrics.enabled else "off"
    print(
        f"{name}: {verdict} ({config.app.target} on {listeners}; workers: {config.workers.count}; metrics: {metrics})"
    )
    return ExitCode.OK


def _check_takeover(fd: int) -> None:
    """Raise UnavailableError if this version cannot use the handover of the running one."""
    from asgid import __version__, config
    from asgid.errors import ConfigError, UnavailableError
    from asgid.log import Output
    from asgid.master.replace import new_program
    from asgid.user import user_of

    try:
        settings = config.parse(new_program.read_handover(fd).config, "the settings in force")
    except (ConfigError, OSError, ValueError) as error:
        raise UnavailableError(f"version {__version__} cannot take over; restart instead: {error}") from error
    try:
        Output(settings.log.output, user_of(settings.process)).close()
    except (LookupError, OSError) as error:
        raise UnavailableError(f"log.output: the file in force cannot be opened: {error}") from error


def _config(arguments: Arguments) -> ExitCode:
    from asgid.config import reference
    from asgid.errors import ExitCode

    _restore_default_signals()

    if arguments.defaults:
        print(reference.example_file(), end="")
    elif arguments.schema:
        import json

        print(json.dumps(reference.json_schema(), indent=2))
    else:
        print(reference.config_to_toml(_source(arguments).load_unresolved()), end="")
    return ExitCode.OK


def _version(_arguments: Arguments) -> ExitCode:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from asgid import __version__
    from asgid.errors import ExitCode

    _restore_default_signals()
    print(f"asgid {__version__}\nPython {platform.python_version()}")
    for name in ("uvloop", "httptools"):
        try:
            print(name, version(name))
        except PackageNotFoundError:
            print(name, "is not installed")
    return ExitCode.OK


def _restore_default_signals() -> None:
    """Let signals end a command that only prints: Ctrl-C, and a pipe that its reader has closed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, COMMANDS)


# -- settings and their checks on this machine -------------------------------------------------------------------------


def _source(arguments: Arguments, machine_checks: MachineChecks | None = None) -> Source:
    from pathlib import Path

    from asgid.source import Source, find_start_directory

    directory = find_start_directory(os.environ)
    return Source(
        name=arguments.file or _COMMAND_LINE,
        path=Path(directory, arguments.file) if arguments.file else None,
        target=arguments.application,
        binds=arguments.bind,
        workers=arguments.workers,
        overrides=dict(arguments.set),
        machine_checks=machine_checks or _machine_checks,
        start_directory=directory,
    )


def _machine_checks(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Yield path and message of each valid setting that this machine or the worker cannot satisfy."""
    from asgid.user import find_gid, find_uid, user_of
    from asgid.worker.http.access_log import check_template

    if not os.path.isdir(config.app.directory):  # Path.is_dir() raises for a name that is too long
        yield ("app", "directory"), f"there is no directory {config.app.directory}"
    if config.log.access.enabled:
        try:
            check_template(config.log.access.format)
        except ValueError as error:
            yield ("log", "access", "format"), str(error)
    names: list[tuple[KeyPath, Callable[[str], object], str]] = []
    for index, listen in enumerate(config.listen):
        names.append((("listen", index, "owner"), find_uid, listen.owner))
        names.append((("listen", index, "group"), find_gid, listen.group))
    names.append((("process", "user"), find_uid, config.process.user))
    names.append((("process", "group"), find_gid, config.process.group))
    problems = [(path, problem) for path, find, name in names if name and (problem := _lookup_problem(find, name))]
    if not problems and (problem := _lookup_problem(user_of, config.process)):
        problems.append((("process", "user"), problem))
    yield from problems


def _start_checks(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Yield the problems of `_machine_checks`, and those that only a start can find.

    `asgid check` may run as another user, and before systemd has created a directory.
    """
    from asgid.log import Output
    from asgid.user import user_of

    yield from _machine_checks(config)
    try:
        user = user_of(config.process)
    except LookupError:  # a problem that `_machine_checks` reports
        return
    outputs: list[tuple[KeyPath, str]] = [(("log", "output"), config.log.output)]
    if config.log.access.enabled:
        outputs.append((("log", "access", "output"), config.log.access.output))
    for path, output in outputs:
        try:
            Output(output, user).close()
        except OSError as error:
            yield path, f"{output} cannot be opened: {error.strerror}"


def _lookup_problem(find: Callable[[Any], object], wanted: object) -> str:
    try:
        find(wanted)
    except LookupError as error:
        return str(error)
    return ""


# -- arguments ---------------------------------------------------------------------------------------------------------


def _parse(argv: Sequence[str]) -> Arguments:
    """Return the arguments; raises SystemExit, as argparse does."""
    from asgid.errors import ExitCode

    # An application always contains a colon, so the first word is a command only if it equals one.
    command = argv[0] if argv and argv[0] in ("check", "config") else ""
    words = list(argv[1:] if command else argv)
    parser = _parser(command)
    if not argv:
        parser.print_help(sys.stderr)
        raise SystemExit(ExitCode.USAGE)
    arguments, unknown = parser.parse_known_args(words, Arguments())
    if problem := _problem(arguments, unknown, ["asgid", command] if command else ["asgid"], words):
        parser.error(problem)
    return arguments


def _problem(arguments: Arguments, unknown: Sequence[str], prefix: list[str], words: list[str]) -> str:
    """Return the first error that argparse does not find, with the command to write; "" if there is none.

    The command line is `prefix` and then `words`; argparse does not know those in `unknown`.
    """
    from pathlib import Path
    from shlex import join

    application, file = arguments.application, arguments.file
    directory = Path(dict(arguments.set).get("app.directory", ""))
    if unknown or (application and ":" not in application):
        from asgid.app_finder import arguments_for, arguments_for_directory
        from asgid.config import options

        if message := options.correction(
            words, prefix, lambda word: arguments_for(word, directory), arguments_for_directory(directory)
        ):
            return message
    if unknown:
        return f"only one application is allowed: {' '.join(unknown)}"
    needs_settings = not (arguments.action is _version or arguments.schema or arguments.defaults)
    if needs_settings and not file and not application:
        from asgid.app_finder import arguments_for_directory

        found = arguments_for_directory(directory)
        fix = f"write {join([*prefix, *found, *words])}" if found else "see asgid --help"
        return f"name a file, -c FILE, or an application, module:attribute; {fix}"
    if file and application:
        override = join([*prefix, "-c", file, "--set", f"app.target={application}"])
        return f"-c FILE and an application exclude each other; to override that of the file, write {override}"
    return ""


def _parser(command: str) -> ArgumentParser:
    from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter

    prog = f"asgid {command}".strip()
    parser = ArgumentParser(prog=prog, allow_abbrev=False, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("application", nargs="?", help="module:attribute, instead of a file")
    add("-c", dest="file", metavar="FILE", help="the configuration file")
    bind = "address to listen on, such as 0.0.0.0:8000; may be repeated"
    add("-b", dest="bind", metavar="ADDR", action="append", default=[], help=bind)
    add("-w", dest="workers", metavar="N", help="number of workers, the same as --set workers.count=N")
    add("--set", metavar="TABLE.KEY=VALUE", action="append", default=[], type=_setting, help="override one setting")
    parser.set_defaults(action=_run, schema=False, defaults=False)
    match command:
        case "check":
            parser.description = "Validate the settings and name every problem in them."
            parser.set_defaults(action=_check)
            add(
                "--boot",
                action="store_true",
                help="also start the application once, in a worker that serves no requests",
            )
            # A running master uses this option to try its successor.
            add("--takes-over", type=int, metavar="FD", help=SUPPRESS)
        case "config":
            parser.description = "Show the settings in force, as TOML."
            parser.set_defaults(action=_config)
            shown = parser.add_mutually_exclusive_group()
            shown.add_argument(
                "--schema", action="store_true", help="show the JSON Schema of the file instead, for editors"
            )
            shown.add_argument("--defaults", action="store_true", help="show the example file instead: every setting")
        case _:
            parser.description = "Serve an ASGI application with supervised worker processes."
            parser.epilog = _EPILOG
            add("--version", dest="action", action="store_const", const=_version, help="show the versions in use")
    return parser


def _setting(word: str) -> tuple[str, str]:
    from argparse import ArgumentTypeError

    name, equals, value = word.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{word!r} has no =; write --set table.key=value, such as --set timeouts.graceful=10s")
    return name.strip(), value.strip()
