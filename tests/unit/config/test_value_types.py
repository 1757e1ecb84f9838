"""The types of values: the form in a file, and the value of the program or the message."""

import math
import tomllib

import pytest

from asgid.config.value_types import UNLIMITED
from tests.settings import APP, problem, problems, read

DURATIONS = {
    '"30s"': 30.0,
    '"500ms"': 0.5,
    '"7ms"': 0.007,
    '"2m"': 120.0,
    '"1.5 h"': 5400.0,
    '"1d"': 86400.0,
    "30": 30.0,
    "0.25": 0.25,
}


@pytest.mark.parametrize("written", DURATIONS)
def test_a_duration_is_seconds(written):
    assert DURATIONS[written] == read(f"[timeouts]\nboot = {written}\n").timeouts.boot


@pytest.mark.parametrize(
    "key", ["heartbeat", "blocked", "header", "body", "write", "keep_alive", "request", "slow_request"]
)
@pytest.mark.parametrize("written", ['"off"', "0", "0.0", '"0s"', "inf"])
def test_a_duration_that_is_off_is_infinite(key, written):
    assert math.inf == getattr(read(f"[timeouts]\n{key} = {written}\n").timeouts, key)


def test_a_grace_of_zero_is_zero():
    """Here 0 means at once, not never."""
    settings = read("[timeouts]\ngraceful = 0\n[reload]\nsettle = 0\n")

    assert (0.0, 0.0) == (settings.timeouts.graceful, settings.reload.settle)


SIZES = {'"16KiB"': 16384, '"16kB"': 16000, '"16KB"': 16000, '"1.5MiB"': 1572864, '"2GB"': 2 * 10**9, '"9B"': 9, "7": 7}


@pytest.mark.parametrize("written", SIZES)
def test_a_size_is_bytes(written):
    assert SIZES[written] == read(f"[limits]\nheader_size = {written}\n").limits.header_size


@pytest.mark.parametrize("written", ['"off"', "0"])
def test_a_size_that_is_off_is_unlimited(written):
    assert UNLIMITED == read(f"[limits]\nbody = {written}\n").limits.body


def test_modes_are_octal():
    settings = read('[[listen]]\nbind = "unix:/x"\nmode = "0600"\n[process]\numask = "022"\n')

    assert (0o600, 0o022) == (settings.listen[0].mode, settings.process.umask)


def test_a_user_is_a_name_or_an_id():
    """Zeros before an id change nothing."""
    settings = read('[process]\nuser = 33\ngroup = "000000000044"\n[[listen]]\nbind = "unix:/x"\nowner = "www-data"\n')

    assert ("33", "44", "www-data") == (settings.process.user, settings.process.group, settings.listen[0].owner)


@pytest.mark.parametrize("name", ["asgid.log", "./off", "log", "logs/syslog", "/dev/null", "stdout.log", "requests"])
def test_a_file_of_a_log_may_have_any_name_that_is_not_a_slip(name):
    assert name == read(f'[log]\noutput = "{name}"').log.output


REFUSED = {
    # text below [app]: part of the message
    "[timeouts]\nboot = true": '4: timeouts.boot: expected a duration such as "30s"',
    "[timeouts]\nboot = nan": "4: timeouts.boot: expected a duration",
    "[timeouts]\nboot = inf": "4: timeouts.boot: expected a duration",
    "[timeouts]\nboot = -1": "4: timeouts.boot: expected a duration",
    '[timeouts]\nboot = "off"': '"2m" or a number of seconds above zero, not "off"',
    "[timeouts]\nkill = 0": "above zero",
    '[timeouts]\ngraceful = "off"': "at once",
    '[timeouts]\nheader = "1 year"': '"off", not "1 year"',
    '[timeouts]\nheader = "400d"': 'at most "366d"',
    '[timeouts]\nheartbeat = "1ms"': 'a duration of at least "500ms" or "off", not "1ms"',
    "[timeouts]\nblocked = 0.09": 'at least "100ms" or "off", not 0.09',
    '[timeouts]\nheader = "٣s"': "expected a duration",
    f"[timeouts]\nheader = {10**400}": 'at most "366d"',
    f"[timeouts]\nheader = {-(10**400)}": "expected a duration",
    "[timeouts]\nheader = nan": "expected a duration",
    '[limits]\nheader_size = "16 pages"': 'expected a size such as "16KiB"',
    "[limits]\nheader_size = 1.5": '"16MB" or a number of bytes, not 1.5',
    '[limits]\nheader_size = "0.3B"': "expected a size",
    f'[limits]\nheader_size = "{"9" * 5000}B"': "expected a size",
    "[limits]\nheader_size = 0": "expected a size",
    f"[limits]\nbody = {2**64}": "expected a size",
    f"[limits]\nheader_size = {UNLIMITED}": "expected a size",
    "[limits]\nconnections = 0": "a whole number from 1 to 1000000, not 0",
    "[workers]\ncount = 501": 'from 1 to 500 or "auto", not 501',
    "[workers]\ncount = true": "not true",
    '[workers]\ncount = "4"': 'not "4"',
    "[reload]\nsurge = 0": "a whole number from 1",
    "[process]\numask = 0o22": "octal number in quotes",
    '[process]\numask = "0o22"': "octal number in quotes",
    '[process]\nname = ""': "empty",
    "[process]\nname = 5": 'text in quotes such as "asgid", not 5',
    '[process]\nuser = "a\\nb"': "control characters",
    "[process]\nuser = -1": 'a name in quotes such as "www-data" or an id from 0 to 4294967294, not -1',
    '[process]\ngroup = "4294967295"': 'an id from 0 to 4294967294, not "4294967295"',
    f'[process]\nuser = "{"9" * 5000}"': "an id from 0 to 4294967294",
    "[[listen]]\nbind = 'unix:/x'\nowner = true": "not true",
    '[log]\nlevel = "INFO"': 'one of "debug", "info", "warning", "error", not "INFO"; did you mean "info"?',
    '[log]\nlevel = "inf"': 'did you mean "info"?',
    '[log]\noutput = "-"': '4: log.output: "-" is not accepted; write "stdout" or "stderr"',
    '[log.access]\noutput = "-"': 'write "stdout" or "stderr"',
    '[log]\noutput = "."': 'write "stdout" or "stderr"',
    '[log]\noutput = "off"': 'to have no log, write "/dev/null", not "off"; for fewer lines, level = "error"',
    '[log]\noutput = "None"': 'to have no log, write "/dev/null", not "None"',
    '[log]\noutput = "syslog"': 'write "stderr": systemd passes it to its journal',
    '[log]\noutput = "syslog://10.0.0.1"': 'write "stderr": systemd passes it to its journal',
    '[log]\noutput = "STDOUT"': 'expected "stdout", "stderr" or the path of a file, not "STDOUT"',
    '[log]\noutput = "stdder"': 'expected "stdout", "stderr" or the path of a file, not "stdder"',
    '[log]\noutput = "true"': 'expected "stdout", "stderr" or the path of a file, not "true"',
    '[log]\noutput = "fd:3"': 'expected "stdout", "stderr" or the path of a file, not "fd:3"',
    '[log]\noutput = "file:///var/log/x"': 'expected "stdout", "stderr" or the path of a file, not "file:///var/log/x"',
    '[log.access]\noutput = "false"': "write enabled = false in [log.access] (--set log.access.enabled=false)",
    '[log.access]\noutput = "journald"': 'write "stderr": systemd passes it to its journal',
    '[log.access]\nformat = "none"': "write enabled = false in [log.access] (--set log.access.enabled=false)",
    '[process]\npid_file = "off"': 'to have no pid file, write "" or leave the key out, not "off"',
    '[log.access]\nformat = "combind"': 'expected "combined"',
    '[log.access]\nenabled = "yes"': 'true or false, without quotes, not "yes"',
    '[http]\nserver_header = "a\\r\\nb"': "printable ASCII",
    '[http]\nserver_header = "ä"': "printable ASCII",
    '[metrics]\nbind = "unix:/x"': "expected host:port",
    '[metrics]\nbind = "off"': "write enabled = false in [metrics] (--set metrics.enabled=false)",
    '[metrics]\nbind = "9464"': '9464 is only a port; write "127.0.0.1:9464", or ":9464" for every',
    '[[listen]]\nbind = "8000"': '4: listen.bind: 8000 is only a port; write "127.0.0.1:8000"',
    '[proxy]\ntrusted = "127.0.0.1"': "4: proxy.trusted: expected a list in brackets",
    '[proxy]\ntrusted = ["::1", "proxy.example"]': "4: proxy.trusted: expected an address, a network such as",
    '[proxy]\ntrusted = ["UNIX"]': '"unix" for unix sockets or "*" for every peer, not "UNIX"',
    '[proxy]\ntrusted = ["10.0.0.1:80"]': 'not "10.0.0.1:80"',
    '[proxy]\ntrusted = ["10.0.0.1/8"]': 'mixes an address and a network; write "10.0.0.0/8" or "10.0.0.1"',
    '[proxy]\ntrusted = [""]': 'not ""',
    "listen = []": "app.listen: there is no such key; here are: target",
    "env = 1": "expected a table such as",
    "env = { A = 1, B = 2 }": "A needs text in quotes, not 1; B needs text in quotes, not 2",
    'env = { "A=B" = "1" }': "cannot name an environment variable",
    'root_path = "api"': 'a path such as "/api"',
    'root_path = "/api/"': 'a path such as "/api"',
    "directory = 1979-05-27": 'such as "/srv/myapp", not 1979-05-27',
    "[process]\npid_file = 1": 'such as "/run/asgid.pid", not 1',
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_value_is_refused_with_the_expected_form(text):
    found = problem(text)

    assert found.startswith("f.toml:")
    assert REFUSED[text] in found


TARGETS = {
    "app": "there is no colon",
    "app.main": 'did you mean "app:main"?',
    "mysite.wsgi": 'did you mean "mysite.wsgi:application"?',
    "mysite.asgi": 'did you mean "mysite.asgi:application"?',
    "app.py": 'is a file; write "app:" and then the name of the application in it',
    "app.py:create": 'is a file; write "app:create"',
    "src/app:application": 'is a file; write "app:application", and directory = "src"',
    "/srv/site/app.py:application": 'is a file; write "app:application", and directory = "/srv/site"',
    "app:create()": "factory = true",
    "app:": "is not the name of a Python object",
    ":app": "is not the name of a Python object",
    "my-app:app": "is not the name of a Python object",
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_a_module_and_an_attribute(target):
    (found,) = problems(f'[app]\ntarget = "{target}"\n')

    assert TARGETS[target] in found


def test_the_files_in_these_tests_are_toml_1_0():
    """No test depends on an extension of the parser; tomllib of the standard library accepts them."""
    for text in REFUSED:
        assert "app" in tomllib.loads(APP + text)
