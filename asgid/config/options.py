"""Translates another server's command line into asgid's options.

The result is one message with every unknown option and the whole command to write. Each suggested option was tried on
the settings before. argparse is not known here.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import join, quote

from asgid.config.other_servers import ServerSetting, letters, load, options, plain_name
from asgid.config.reserved_keys import reserved_key
from asgid.config.spelling import did_you_mean, nearest
from asgid.config.translation import accepts, example_value, has_other_zero, translated_value, with_port
from asgid.config.value_types import quoted

_VALUED = ("-b", "-c", "-w", "--set", "--takes-over")
_FLAGS = ("-h", "--help", "--version", "--boot", "--schema", "--defaults", "--")
#: `value` of a row -> asgid's command or option.
_COMMANDS = {"check_command": "check", "config_command": "config", "version_option": "--version"}
_ASSIGNMENT = re.compile(r"[^\W\d]\w*=")
_TARGET = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


@dataclass(slots=True)
class _Command:
    """A command line during its translation."""

    kept: list[str] = field(default_factory=list)  #: arguments that asgid has too
    positionals: list[str] = field(default_factory=list)  #: those of `kept` that are neither options nor their values
    unknown: list[str] = field(default_factory=list)  #: options that asgid does not have
    notes: list[str] = field(default_factory=list)  #: sentences about unknown options
    added: list[str] = field(default_factory=list)  #: asgid's options for the unknown ones
    environment: list[str] = field(default_factory=list)  #: variables before the command, in a shell
    socket_mode: list[str] = field(default_factory=list)  #: the option for the permissions of a socket file
    config_file: str | None = None
    command: str = ""  #: asgid's command or option in the place of an unknown option
    addresses: dict[str, dict[str, str]] = field(default_factory=dict)  #: asgid's key -> host and port


def correction(
    words: Sequence[str], prefix: Sequence[str], resolve: Callable[[str], list[str]], default_app: list[str]
) -> str:
    """Return the errors in `words` and the command to write; "" if each option is known and the application is valid.

    `prefix` is the command before the words. `resolve` returns the arguments for a file or module that was written in
    the place of an application. `default_app` are the arguments for an application if the words have none.
    """
    command = _read(words)
    wrong = next((word for word in command.positionals if ":" not in word), None)
    if not command.unknown and wrong is None:
        return ""
    parts = [f"there is no {', '.join(dict.fromkeys(command.unknown))}"] if command.unknown else []
    if command.command.startswith("-"):
        return "; ".join([*parts, f"write {join([*prefix[:1], command.command])}"])
    for key, address in command.addresses.items():
        _add_address(key, address, command)
    _add_config_file(command)
    if command.socket_mode and any(word.startswith("unix:") for word in (*command.kept, *command.added)):
        command.added += command.socket_mode
    elif command.socket_mode:
        command.notes.append("only a socket file has permissions")
    parts += dict.fromkeys(command.notes)
    is_complete = wrong is None or _replace(wrong, command, resolve, parts)
    has_file = any(word.startswith("-c") for word in command.kept)
    if has_file:  # a file and an application exclude each other
        _override_target(command)
    has_app = has_file or bool(command.positionals)
    prefix = [*prefix[:1], command.command] if command.command else prefix
    arguments = [*([] if has_app else default_app), *command.kept, *command.added]
    if is_complete and (has_app or default_app):
        parts.append(f"write {' '.join([*command.environment, join([*prefix, *arguments])])}")
    elif is_complete and command.added:
        parts.append(f"write {join(command.added)}")
    return "; ".join(parts)


def _add_config_file(command: _Command) -> None:
    """Add -c for a file in another option. gunicorn's file is a program, so an application beside it is enough."""
    file = command.config_file
    is_program = file is not None and (file.endswith(".py") or file.startswith("python:"))
    if is_program and any(word not in load().ignored_commands for word in command.positionals):
        command.notes.append(options()["config"].instead)
    elif file:
        command.kept[:0] = ["-c", file]


def _add_address(key: str, address: Mapping[str, str], command: _Command) -> None:
    """Add the option for a host and a port, which other servers have in two options."""
    default = example_value(key)
    default_host, _, default_port = default.rpartition(":")
    host, port = address.get("host", default_host), address.get("port", default_port)
    bind = host if "port" not in address and accepts(key, host) else with_port(host, port)
    forms = [] if bind.startswith("-") else [bind, json.dumps(bind)]
    word = next((each for each in forms if accepts(key, each)), None)
    if word is None:
        command.notes.append(_no_value_message(bind, key))
    command.added += _option(key, default if word is None else word)


def _override_target(command: _Command) -> None:
    """Make the application an override of the one in the file."""
    words = []
    for before, word in zip(["", *command.kept], command.kept, strict=False):
        is_target = before not in _VALUED and _TARGET.fullmatch(word)
        words += ["--set", f"app.target={word}"] if is_target else [word]
    command.kept = words


def _replace(word: str, command: _Command, resolve: Callable[[str], list[str]], parts: list[str]) -> bool:
    """Return whether a word that is not an application has a replacement; replace it, and add the reason to `parts`."""
    index = command.kept.index(word)
    reason = f"{word!r} is not a command"
    if word.endswith(".toml"):
        replacement, reason = ["-c", word], f"{word!r} is a file"
    elif word in load().ignored_commands:
        replacement = []
        command.positionals.remove(word)
    elif answer := load().command_answers.get(word):
        parts.append(f"{reason}; {answer}")
        return False
    else:
        replacement, reason = resolve(word), f"{reason}, and an application is written module:attribute"
        if not replacement:
            parts.append(f"{reason}{did_you_mean(word, ('check', 'config'))}")
            return False
    parts.append(reason)
    command.kept[index : index + 1] = replacement
    return True


def _read(words: Sequence[str]) -> _Command:
    command = _Command()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in _VALUED:
            command.kept += [word, *rest[:1]]
            del rest[:1]
        elif not word.startswith("-") or word == "-":
            command.kept.append(word)
            command.positionals.append(word)
        elif word in _FLAGS or word.partition("=")[0] in _VALUED or word[:2] in _VALUED:
            command.kept.append(word)
        else:
            _translate(word, rest, command)
    return command


def _translate(word: str, rest: list[str], command: _Command) -> None:
    """Add the translation of the option `word` to `command`. If its value is the first of `rest`, remove it there."""
    option, equals, value = word.partition("=")
    plain = plain_name(option)
    if not word.startswith("--"):
        option, equals, value = word[:2], word[2:], word[2:].removeprefix("=")
        plain = letters().get(word[1:2], "")
    name, is_negated = _find(plain)
    is_guess = bool(name) and name not in (plain, plain.removeprefix("no_"))
    command.unknown.append(f"{option} (did you mean --{name.replace('_', '-')}?)" if is_guess else option)
    if not name:
        return
    setting = options()[name]
    given = value if equals else None
    is_next = rest and (_is_value(rest[0]) or (setting.value == "config_file" and rest[0].startswith("python:")))
    if given is None and not is_negated and not setting.flag and is_next:
        given = rest.pop(0)
    if option == "-p" and given and given.isdecimal():  # daphne's port, not gunicorn's pid file
        setting = options()["port"]
    if option == "-v" and rest and rest[0].isdecimal():  # daphne's verbosity, not gunicorn's version
        setting, given = options()["verbosity"], rest.pop(0)
    _add(setting, given, command, is_negated=is_negated)


def _add(setting: ServerSetting, value: str | None, command: _Command, *, is_negated: bool) -> None:
    """Add asgid's options for another server's option, or a note. The first cases are not one key of asgid."""
    match setting:
        case ServerSetting(value="config_file") if value:
            command.config_file = value
        case ServerSetting(value="host" | "port" | "metrics_host" | "metrics_port") if value:
            command.addresses.setdefault(setting.key, {})[setting.value.removeprefix("metrics_")] = value
        case ServerSetting(value="bind") if value:
            _add_binds(setting, value.split(","), command)
        case ServerSetting(value="env_file"):
            file = quote(value if value and "/" in value else f"./{value or '.env'}")
            form = f"for one variable write --set app.env.NAME=value, for all run first: set -a; . {file}; set +a"
            command.notes.append(f"asgid does not read such a file; {form}")
        case ServerSetting(value="python_path"):
            command.environment.append(f"PYTHONPATH={quote(value or 'src')}")
        case ServerSetting(instead=str(note)) if note:
            command.command = _COMMANDS.get(setting.value, command.command)
            command.notes.append(note)
        case ServerSetting(key=key) if reserved_key(key):
            command.notes.append(f"{key} comes with a later version")
        case ServerSetting(key="app.target"):
            command.kept += [value] if value else []
            command.positionals += [value] if value else []
        case ServerSetting(key="app.env"):
            variable, _, text = (value if value and _ASSIGNMENT.match(value) else "NAME=value").partition("=")
            command.added += _options_for(setting, f"app.env.{variable}", text, command)
        case _:
            added = command.socket_mode if setting.key == "listen.mode" else command.added
            added += _options_for(setting, setting.key, value, command, is_negated=is_negated)


def _add_binds(setting: ServerSetting, values: Iterable[str], command: _Command) -> None:
    """Add addresses. The first one without a port may be daphne's, with its port in another option."""
    for value in map(str.strip, values):
        if not accepts(setting.key, value) and accepts(setting.key, with_port(value, 8000)):
            parts = command.addresses.setdefault(setting.key, {})
            if parts.setdefault("host", value) == value:
                continue
        command.added += _options_for(setting, setting.key, value, command)


def _options_for(
    setting: ServerSetting, key: str, value: str | None, command: _Command, *, is_negated: bool = False
) -> list[str]:
    """Return the options that set asgid's `key` to the translation of `value`, or to an example, with a note."""
    if has_other_zero(setting, value):
        command.notes.append(f"{setting.zero}, so the command leaves it out")
        return []
    given = None if value == "-" and key == "listen.bind" else value
    word = translated_value(setting, key, given, is_negated=is_negated)
    if word is None and value is not None:
        command.notes.append(_no_value_message(value, key))
    return _option(key, example_value(key) if word is None else word)


def _option(key: str, word: str) -> list[str]:
    short = {"listen.bind": "-b", "workers.count": "-w"}.get(key)
    return [short, word] if short else ["--set", f"{key}={word}"]


def _no_value_message(value: str, key: str) -> str:
    return f"{key} does not accept {quoted(value)}, so the command has an example"


def _find(plain: str) -> tuple[str, bool]:
    """Return the plain name of the option that is probably meant, "" for none, and whether it is negated."""
    if plain in options():
        return plain, plain.startswith("no_")
    positive = plain.removeprefix("no_")
    if positive in options():
        return positive, positive != plain
    return nearest(plain, options(), 0.75), False


def _is_value(word: str) -> bool:
    return word == "-" or not (word.startswith("-") or _TARGET.fullmatch(word))
