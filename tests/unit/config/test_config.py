"""Text -> Config, or every problem of every kind in one pass."""

import pytest

from asgid import config
from asgid.address import Unix
from asgid.config import TABLES, Config
from tests.settings import APP, problems, read


def test_an_application_is_all_that_a_file_needs():
    """Everything else is the default."""
    settings = read("")

    assert Config(app=config.App(target="a:b")) == settings
    assert ["127.0.0.1:8000"] == [listen.bind for listen in settings.listen]


def test_a_listener_knows_its_address_and_its_label():
    """The label is the bind text unless it has a name."""
    first, second = read('[[listen]]\nbind = "unix:/x"\n[[listen]]\nbind = ":1"\nname = "api"\n').listen

    assert (Unix("/x"), "unix:/x", "api") == (first.address, first.label, second.label)


def test_a_metrics_address_that_was_written_is_told_from_the_default():
    """Taken, the one is an error and the other a warning."""
    assert "bind" in read('[metrics]\nbind = "127.0.0.1:9464"\n').metrics.model_fields_set
    assert "bind" not in read("[metrics]\nenabled = true\n").metrics.model_fields_set


def test_settings_do_not_change():
    """A generation runs to its end under what it started with."""
    with pytest.raises(ValueError, match="frozen"):
        read("").timeouts.boot = 1.0  # type: ignore[misc]


def test_every_table_is_in_the_list_of_tables():
    """In the order in which a Config has them; [tls] holds tables, and [log] holds one."""
    names = [name.partition(".")[0] for name in TABLES]

    assert list(Config.model_fields) == list(dict.fromkeys(names))


def test_every_problem_is_found_in_one_pass_in_the_order_of_the_file():
    """Whatever their kind: values, names, contradictions, and keys without effect."""
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


def test_what_is_wrong_beyond_the_settings_has_its_place_too():
    """What only the machine knows stands beside what the file says, in the same order."""

    def no_such_user(settings):
        yield ("process", "user"), f"no {settings.process.user}"
        yield ("app", "directory"), "nowhere"

    text = '[[listen]]\nmode = "0600"\n[process]\nuser = "x"\n'

    assert ["f.toml:4", "f.toml:6", "--set app.directory"] == [
        line.split(": ")[0]
        for line in problems(APP + text, overrides={"app.directory": "y"}, machine_checks=no_such_user)
    ]
