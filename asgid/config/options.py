"""Translates another server's command line into asgid's options.

The result is one message with every unknown option and the whole command to write. Each suggested option was tried on
the settings before. argparse is not known here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from shlex import join, quote

from asgid.config.other_servers import ServerSetting, letters, load, options, plain_name
from asgid.config.reserved_keys import reserved_key
from asgid.config.spelling import nearest
from asgid.config.translation import accepts, translated_value

_VALUED = ("-b", "-c", "-w", "--set", "--takes-over")
_FLAGS = ("-h", "--help", "--version", "--boot", "--schema", "--defaults", "--")
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
    host: str | None = None
    port: str | None = None


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
    if command.host is not None or command.port is not None:
        host, port = command.host or "127.0.0.1", command.port or "8000"
        bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        command.added += ["-b", bind if accepts("listen.bind", bind) and bind[0] != "-" else "127.0.0.1:8000"]
    if command.config_file is not None and any(word not in load().ignored_commands for word in command.positionals):
        command.notes.append(options()["config"].instead)
    elif command.config_file is not None:
        command.kept += ["-c", command.config_file]
    if command.socket_mode and any(word.startswith("unix:") for word in (*command.kept, *command.added)):
        command.added += command.socket_mode
    elif command.socket_mode:
        command.notes.append("only a socket file has permissions")
    parts += dict.fromkeys(command.notes)
    is_complete = wrong is None or _replace(wrong, command, resolve, parts)
    has_app = bool(command.positionals) or any(word.startswith("-c") for word in command.kept)
    arguments = [*([] if has_app else default_app), *command.kept, *command.added]
    if is_complete and (has_app or default_app):
        parts.append(f"write {' '.join([*command.environment, join([*prefix, *arguments])])}")
    elif is_complete and command.added:
        parts.append(f"write {join(command.added)}")
    return "; ".join(parts)


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
            parts.append(reason)
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
    if given is None and not is_negated and not setting.flag and rest and _is_value(rest[0]):
        given = rest.pop(0)
    if option == "-p" and given and given.isdecimal():  # daphne's port, not gunicorn's pid file
        setting = options()["port"]
    _add(setting, given, command, is_negated=is_negated)


def _add(setting: ServerSetting, value: str | None, command: _Command, *, is_negated: bool) -> None:
    """Add asgid's options for another server's option, or a note."""
    if setting.value in ("config_file", "host", "port") and value:
        setattr(command, setting.value, value)
    elif setting.value == "env_file":
        file = quote(value if value and "/" in value else f"./{value or '.env'}")
        form = f"for one variable write --set app.env.NAME=value, for all run first: set -a; . {file}; set +a"
        command.notes.append(f"asgid does not read such a file; {form}")
    elif setting.value == "python_path":
        command.environment.append(f"PYTHONPATH={quote(value or 'src')}")
    elif setting.instead:
        command.notes.append(setting.instead)
    elif reserved_key(setting.key):
        command.notes.append(f"{setting.key} comes with a later version")
    elif setting.key == "app.target":
        command.kept += [value] if value else []
        command.positionals += [value] if value else []
    elif setting.key == "app.env":
        assignment = value if value and _ASSIGNMENT.match(value) else "NAME=value"
        variable, _, text = assignment.partition("=")
        command.added += _options_for(setting, f"app.env.{variable}", text, is_negated=False)
    elif setting.key == "listen.mode":
        command.socket_mode = _options_for(setting, setting.key, value, is_negated=is_negated)
    else:
        command.added += _options_for(setting, setting.key, value, is_negated=is_negated)


def _options_for(setting: ServerSetting, key: str, value: str | None, *, is_negated: bool) -> list[str]:
    """Return the options that set asgid's `key` to the translation of `value`, or to an example."""
    given = None if value == "-" and key == "listen.bind" else value
    word = translated_value(setting, key, given, is_negated=is_negated)
    short = {"listen.bind": "-b", "workers.count": "-w"}.get(key)
    return [short, word] if short else ["--set", f"{key}={word}"]


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
