"""Another server's command line -> the same in asgid's options, as far as there is a counterpart.

Each option that is suggested was tried on the settings before, and the whole command is what to write. So one refusal
is enough, however many options are strange. This file does not know argparse.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import join, quote

from asgid.config.reserved_keys import reserved_key
from asgid.config.spelling import nearest
from asgid.config.suggestions import COMMANDS, ELSEWHERE, STARTS
from asgid.config.tables import TABLES
from asgid.config.translation import accepts, translated_value

#: What else is an option of other servers and has another name here.
_OPTIONS: Mapping[str, str] = {
    "bind": "listen.bind",
    "check_config": "asgid check names what is wrong in a file",
    "env": "app.env",
    "factory": "app.factory",
    "host": "listen.bind",
    "interface": "app.interface",
    "name": "process.name",
    "port": "listen.bind",
    "print_config": "asgid config shows the settings in force",
    "reload": "nothing watches the files, and HUP to the master brings new code",
    "use_colors": "lines are coloured on a terminal, unless NO_COLOR is set",
    "no_use_colors": "lines are coloured on a terminal, unless NO_COLOR is set",
}
#: Letters of gunicorn's, beside those that mean the same here.
_LETTERS: Mapping[str, str] = {
    "D": "daemon",
    "e": "env",
    "g": "group",
    "k": "worker_class",
    "m": "umask",
    "n": "name",
    "p": "pid",
    "t": "timeout",
    "u": "user",
}
#: Options without a value, of any server. With `no_` before them they have none either.
_FLAGS = frozenset(
    {
        *("access_log", "capture_output", "check_config", "daemon", "date_header", "debug", "factory", "log"),
        *("include_date_header", "include_server_header", "log_access", "metrics", "metrics_enabled", "no_sendfile"),
        *("no_server_name", "preload", "preload_app", "print_config", "proxy_headers", "reload", "reset_contextvars"),
        *("respawn_failed_workers", "reuse_port", "server_header", "use_colors", "websockets"),
    }
)
_VALUED = ("-b", "-c", "-w", "--set", "--takes-over")
_OURS = ("-h", "--help", "--version", "--boot", "--schema", "--defaults", "--")
_ASSIGNMENT = re.compile(r"[^\W\d]\w*=")
_TARGET = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


@dataclass(slots=True)
class _Command:
    """A command line while it is translated."""

    kept: list[str] = field(default_factory=list)  #: words that mean something here
    places: list[str] = field(default_factory=list)  #: of those, what is neither an option nor its value
    strange: list[str] = field(default_factory=list)  #: options that do not exist here
    notes: list[str] = field(default_factory=list)  #: what is to be known of them
    words: list[str] = field(default_factory=list)  #: what says here what they say there
    environment: list[str] = field(default_factory=list)  #: what stands before the program, in a shell
    mode: list[str] = field(default_factory=list)  #: what sets the permissions of a socket file
    host: str | None = None
    port: str | None = None


def answer(words: Sequence[str], prefix: Sequence[str], resolve: Callable[[str], list[str]], here: list[str]) -> str:
    """Return what is wrong in `words`, and the command to write; "" if no option is strange and an application is named
    as it has to be.

    `prefix` is what stands before the words. `resolve` returns the words for a file or a module that is named in place
    of an application, and `here` names the application if the command does not.
    """
    command = _read(words)
    place = next((word for word in command.places if ":" not in word), None)
    if not command.strange and place is None:
        return ""
    parts = [f"there is no {', '.join(dict.fromkeys(command.strange))}"] if command.strange else []
    if command.host is not None or command.port is not None:
        host, port = command.host or "127.0.0.1", command.port or "8000"
        bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        command.words += ["-b", bind if accepts("listen.bind", bind) and bind[0] != "-" else "127.0.0.1:8000"]
    if command.mode and any(word.startswith("unix:") for word in (*command.kept, *command.words)):
        command.words += command.mode
    elif command.mode:
        command.notes.append("only a socket file has permissions")
    parts += dict.fromkeys(command.notes)
    is_known = place is None or _replace(place, command, resolve, parts)
    has_source = bool(command.places) or any(word.startswith("-c") for word in command.kept)
    whole = [*([] if has_source else here), *command.kept, *command.words]
    if is_known and (has_source or here):
        parts.append(f"write {' '.join([*command.environment, join([*prefix, *whole])])}")
    elif is_known and command.words:
        parts.append(f"write {join(command.words)}")
    return "; ".join(parts)


def _replace(place: str, command: _Command, resolve: Callable[[str], list[str]], parts: list[str]) -> bool:
    """Put what was meant by `place`, which is not an application, in its place. Returns whether that is known."""
    at = command.kept.index(place)
    if place.endswith(".toml"):
        meant, why = ["-c", place], f"{place!r} is a file"
    elif place in STARTS:
        meant, why = [], f"{place!r} is not a command"
        command.places.remove(place)
    elif place in COMMANDS:
        parts.append(f"{place!r} is not a command; {COMMANDS[place]}")
        return False
    else:
        meant, why = resolve(place), f"{place!r} is not a command, and an application is written module:attribute"
        if not meant:
            parts.append(why)
            return False
    parts.append(why)
    command.kept[at : at + 1] = meant
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
            command.places.append(word)
        elif word in _OURS or word.partition("=")[0] in _VALUED or word[:2] in _VALUED:
            command.kept.append(word)
        else:
            _translate(word, rest, command)
    return command


def _translate(word: str, rest: list[str], command: _Command) -> None:
    """Add what `word` means here; its value may be the first of `rest`, and is taken from there then."""
    said, equals, value = word.partition("=")
    plain = said.lstrip("-").lower().replace("-", "_")
    if not word.startswith("--"):
        said, equals, value = word[:2], word[2:], word[2:].removeprefix("=")
        plain = _LETTERS.get(word[1:2], "")
    name, is_negated = _named(plain)
    is_guess = bool(name) and name not in (plain, plain.removeprefix("no_"))
    command.strange.append(f"{said} (did you mean --{name.replace('_', '-')}?)" if is_guess else said)
    if not name:
        return
    given = value if equals else None
    if given is None and not is_negated and name not in _FLAGS and rest and _is_value(rest[0]):
        given = rest.pop(0)
    if name == "pid" and given and given.isdecimal():  # daphne's -p is a port
        name = "port"
    _suggest(name, given, command, is_negated=is_negated)


def _suggest(name: str, value: str | None, command: _Command, *, is_negated: bool) -> None:
    ours = _WAYS[name]
    if name == "config" and value:
        command.kept += ["-c", value]
    elif name in ("host", "port") and value:
        setattr(command, name, value)
    elif name in ("env_file", "env_files"):
        file = quote(value if value and "/" in value else f"./{value or '.env'}")
        way = f"for one variable write --set app.env.NAME=value, for all run first: set -a; . {file}; set +a"
        command.notes.append(f"nothing reads such a file; {way}")
    elif name in ("app_dir", "pythonpath"):
        command.environment.append(f"PYTHONPATH={quote(value or 'src')}")
    elif " " in ours:
        command.notes.append(ours)
    elif reserved_key(ours):
        command.notes.append(f"{ours} comes with a later version")
    elif ours == "app.target":
        command.kept += [value] if value else []
        command.places += [value] if value else []
    elif ours == "app.env":
        assignment = value if value and _ASSIGNMENT.match(value) else "NAME=value"
        key, _, text = assignment.partition("=")
        command.words += _words(f"app.env.{key}", name, text, is_negated=False)
    elif ours == "listen.mode":
        command.mode = _words(ours, name, value, is_negated=is_negated)
    else:
        command.words += _words(ours, name, value, is_negated=is_negated)


def _words(ours: str, name: str, value: str | None, *, is_negated: bool) -> list[str]:
    """Return the options that set our key to what `value` means, or to an example if no such value is taken."""
    word = translated_value(
        name, ours, None if value == "-" and ours == "listen.bind" else value, is_negated=is_negated
    )
    short = {"listen.bind": "-b", "workers.count": "-w"}.get(ours)
    return [short, word] if short else ["--set", f"{ours}={word}"]


def _named(plain: str) -> tuple[str, bool]:
    """Return which option of any server is meant, and whether it is negated; "" for none."""
    if plain in _WAYS:
        return plain, plain.startswith("no_")
    positive = plain.removeprefix("no_")
    if positive in _WAYS:
        return positive, positive != plain
    return nearest(plain, _WAYS, 0.75), False


def _is_value(word: str) -> bool:
    return word == "-" or not (word.startswith("-") or _TARGET.fullmatch(word))


#: Option of any server, with underscores -> our key, or a sentence. Our own keys come first, for others know better.
_WAYS: Mapping[str, str] = {
    key: f"{table}.{key}"
    for table, model in TABLES.items()
    for key in model.settings()
    if not reserved_key(f"{table}.{key}")
} | {**ELSEWHERE, **_OPTIONS, "config": "config"}
