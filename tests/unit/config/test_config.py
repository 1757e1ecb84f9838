"""`parse` returns a Config, or all problems in one pass."""

import pytest

from asgid.address import Unix
from asgid.config import Config
from asgid.config.tables import TABLES, App
from tests.settings import APP, problems, read


def test_only_the_application_is_required():
    settings = read("")

    assert Config(app=App(target="a:b")) == settings
    assert ["127.0.0.1:8000"] == [listen.bind for listen in settings.listen]


def test_a_listener_has_an_address_and_a_label():
    """The label is the name, or the bind text without one."""
    first, second = read('[[listen]]\nbind = "unix:/x"\n[[listen]]\nbind = ":1"\nname = "api"\n').listen

    assert (Unix("/x"), "unix:/x", "api") == (first.address, first.label, second.label)


def test_a_written_metrics_address_differs_from_the_default():
    """If the address is in use, the written one is an error and the default a warning."""
    assert "bind" in read('[metrics]\nbind = "127.0.0.1:9464"\n').metrics.model_fields_set
    assert "bind" not in read("[metrics]\nenabled = true\n").metrics.model_fields_set


def test_settings_are_immutable():
    with pytest.raises(ValueError, match="frozen"):
        read("").timeouts.boot = 1.0  # type: ignore[misc]


def test_tables_lists_every_table():
    """In the order of Config; [tls] contains tables, and [log] contains one."""
    names = [name.partition(".")[0] for name in TABLES]

    assert list(Config.model_fields) == list(dict.fromkeys(names))


def test_all_problems_are_reported_in_the_order_of_the_file():
    text = """\
[timeouts]
boot = "soon"

[limits]
keep_alive = 5

[control]
mode = "0600"
[[listen]]
bind = ":1"

[[listen]]
bind = "127.0.0.1:1"
mode = 600

[nonsense]
"""
    found = problems(text)

    assert [1, 2, 5, 8, 13, 14, 14, 16] == [int(line.split(":")[1]) for line in found]
    assert "app: is required" in found[0]


def test_a_problem_of_this_machine_has_its_place():
    def no_such_user(settings):
        yield ("process", "user"), f"no {settings.process.user}"
        yield ("app", "directory"), "nowhere"

    text = '[[listen]]\nmode = "0600"\n[process]\nuser = "x"\n'

    assert ["f.toml:4", "f.toml:6", "--set app.directory"] == [
        line.split(": ")[0]
        for line in problems(APP + text, overrides={"app.directory": "y"}, machine_checks=no_such_user)
    ]
