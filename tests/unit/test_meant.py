"""What somebody meant who wrote a key that does not exist."""

import pytest

from asgid.config import TABLES
from asgid.config.meant import ELSEWHERE
from tests.settings import APP, problem, problems

REFUSED = {
    # below [app]: what the message holds
    "[timeouts]\ngracefull = 1": 'did you mean "graceful"?',
    '[timeouts]\n"keep-alive" = 1': 'did you mean "keep_alive"?',
    "[limits]\nkeep_alive = 1": "belongs in [timeouts]",
    "[log]\nloglevel = 1": "write level in [log]",
    "[workers]\nworker_connections = 1": "write connections in [limits]",
    "[workers]\ntimeout = 1": "write heartbeat in [timeouts]",
    "[workers]\nws_max_size = 1": "write max_message in [websocket]",
    "[workers]\npreload_app = true": "each worker imports the application itself",
    "[workers]\nzzz = true": "here are: count, threads",
    "[timeout]\nboot = 1": 'no such table; did you mean "timeouts"?',
    "[log.acess]\nenabled = true": 'no such table; did you mean "log.access"?',
    "[zzz]\na = 1": "no such table; they are: app, listen",
}


@pytest.mark.parametrize("text", REFUSED)
def test_an_unknown_name_is_refused_with_what_was_probably_meant(text):
    """A key that is near, the table it belongs in, or our name for another server's."""
    found = problem(text)

    assert found.startswith("f.toml:")
    assert REFUSED[text] in found


TOP_LEVEL = {
    "workers = 4": "f.toml:1: workers: is a table; write count in [workers]",
    'listen = ":80"': "f.toml:1: listen: write [[listen]]",
    "listen = []": "f.toml:1: listen: at least one address is needed",
    'bind = ":80"': "f.toml:1: bind: there is no such key here; it belongs in [[listen]] or [metrics]",
    "keepalive = 5": "f.toml:1: keepalive: there is no such key; write keep_alive in [timeouts]",
    "limit_request_feilds = 5": "write header_count in [limits]",
    "zzz = 5": "every key stands in a table; they are: app",
    "log = 5": "f.toml:1: log: is a table: write [log] on a line of its own",
}


@pytest.mark.parametrize("line", TOP_LEVEL)
def test_a_key_outside_its_table_is_sent_there(line):
    """Other servers have no tables."""
    (found,) = problems(f"{line}\n{APP}")

    assert TOP_LEVEL[line] in found


@pytest.mark.parametrize("name", ELSEWHERE)
def test_settings_of_other_servers_lead_to_ours(name):
    """Every full name in the table is a key of ours."""
    ours = ELSEWHERE[name]
    if " " not in ours:
        table, _, key = ours.rpartition(".")

        assert key in TABLES[table].model_fields
