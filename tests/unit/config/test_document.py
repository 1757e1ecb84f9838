"""A file with the overrides of the command line."""

import pytest

from asgid import config
from asgid.errors import ConfigError
from tests.settings import problems, read

OVERRIDES = {
    ("timeouts.boot", "5s"): lambda settings: settings.timeouts.boot == 5.0,
    ("timeouts.boot", "5"): lambda settings: settings.timeouts.boot == 5.0,
    ("workers.count", "auto"): lambda settings: settings.workers.count == "auto",
    ("workers.count", "3"): lambda settings: settings.workers.count == 3,
    ("log.access.enabled", "false"): lambda settings: settings.log.access.enabled is False,
    ("app.env.LANG", "C.UTF-8"): lambda settings: settings.app.env == {"LANG": "C.UTF-8"},
    ("app.env", '{ A = "1" }'): lambda settings: settings.app.env == {"A": "1"},
    ("process.umask", "0022"): lambda settings: settings.process.umask == 0o022,
    ("process.name", '"two words"'): lambda settings: settings.process.name == "two words",
    ("listen.backlog", "7"): lambda settings: [listen.backlog for listen in settings.listen] == [7],
    ("http.server_header", ""): lambda settings: settings.http.server_header == "",
}


@pytest.mark.parametrize(("key", "word"), OVERRIDES)
def test_the_command_line_overrides_a_key(key, word):
    assert OVERRIDES[key, word](read('[workers]\ncount = 9\n[http]\nserver_header = "x"\n', overrides={key: word}))


def test_an_override_is_set_in_every_listener():
    """An override cannot name one of them."""
    settings = read('[[listen]]\nbind = ":1"\n[[listen]]\nbind = ":2"\n', overrides={"listen.backlog": "7"})

    assert [(":1", 7), (":2", 7)] == [(listen.bind, listen.backlog) for listen in settings.listen]


def test_binds_replace_the_listeners_of_the_file():
    """A problem of a replaced listener is not reported."""
    settings = read('[[listen]]\nbind = "nonsense"\n', binds=[":1", "fd:3"])

    assert [":1", "fd:3"] == [listen.bind for listen in settings.listen]


def test_an_application_needs_no_file():
    assert "m:a" == config.parse("", "the command line", target="m:a").app.target


def test_a_missing_key_has_the_place_of_the_document():
    (missing,) = problems("")
    with pytest.raises(ConfigError) as caught:
        config.parse(
            None, "the command line", target="a:b", machine_checks=lambda _: [(("log", "format"), "no terminal")]
        )

    assert missing.startswith("f.toml:1: app: is required")
    assert "the command line: log.format: no terminal" == str(caught.value)


def test_a_problem_of_the_command_line_is_placed_there():
    """They follow those of the file, with the option as it was typed."""
    found = problems(
        '[app]\ntarget = "a:b"\n[timeouts]\nkill = 0\nboot = 0\n',
        overrides={"timeouts.boot": "never", "boot": "1", "app.target": "[", "no.such": "1"},
        binds=["nowhere"],
    )

    places = ["f.toml:4", "-b nowhere", "--set timeouts.boot", "--set boot", "--set app.target", "--set no.such"]
    assert sorted(places) == sorted(line.split(": ")[0] for line in found)
    assert "f.toml:4" == found[0].split(": ")[0]


def test_a_text_that_begins_like_a_table_needs_quotes():
    """The message shows them. Without quotes, a mistyped table would become text."""
    (found,) = problems('[app]\ntarget = "a:b"\n', overrides={"log.access.format": "{status} {path}"})

    assert found.endswith("""; as text it is '"{status} {path}"'""")
    assert "{status}" == read("", overrides={"log.access.format": '"{status}"'}).log.access.format


@pytest.mark.parametrize(("word", "place"), [("", "-w ''"), ("four", "-w four")])
def test_a_wrong_number_of_workers_has_the_place_of_its_option(word, place):
    (found,) = problems('[app]\ntarget = "a:b"\n', workers=word)

    assert found.startswith(f"{place}: workers.count: expected a whole number from 1 to 500")
    assert 3 == read("", workers="3").workers.count
    assert 4 == read("", workers="three", overrides={"workers.count": "4"}).workers.count


NOT_TOML = {
    'a = "x': "f.toml:1: this is not TOML: ",
    "a = 1\n[b\n": "f.toml:2: this is not TOML: ",
    "a = 1\na = 2\n": "f.toml:2: this is not TOML: ",
    "a = " + "[" * 2000: "f.toml:1: this TOML cannot be read: ",
    "a = " + "1" * 5000: "f.toml:1: this TOML cannot be read: ",
}


@pytest.mark.parametrize("text", NOT_TOML, ids=range(len(NOT_TOML)))
def test_a_text_that_is_not_toml_is_refused_with_its_line(text):
    (found,) = problems(text)

    assert found.startswith(NOT_TOML[text])
