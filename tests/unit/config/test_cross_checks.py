"""What is wrong between keys that are right by themselves."""

import pytest

from asgid.config import reserved_keys
from tests.settings import problem, problems, read

REFUSED = {
    # below [app]: what the message holds
    '[[listen]]\nmode = "0600"': "only for a socket file",
    '[[listen]]\nbind = "unix:@x"\nowner = "me"': "only for a socket file",
    '[[listen]]\nbind = ":1"\n[[listen]]\nbind = "[::1]:1"': "6: listen.bind: [::1]:1 cannot be bound",
    '[[listen]]\nbind = "unix:/x"\n[[listen]]\nbind = "unix:/x"': "another [[listen]] already has unix:/x",
    '[[listen]]\nbind = ":0"\n[[listen]]\nbind = ":0"': "6: listen.bind: another [[listen]] already has :0; the kernel",
    '[metrics]\nbind = "[::1]:1"\n[[listen]]\nbind = ":1"': "4: metrics.bind: [::1]:1 cannot be bound",
    '[[listen]]\nname = "x"\n[[listen]]\nbind = ":1"\nname = "x"': '7: listen.name: another listener has the label "x"',
    '[[listen]]\nname = ":1"\n[[listen]]\nbind = ":1"': '6: listen.bind: another listener has the label ":1" too',
    '[[listen]]\nbind = "fd:3"\nname = "x"\n[[listen]]\nbind = "fd:3"\nname = "x"': "7: listen.bind: another [[",
    '[proxy]\nheaders = "none"\nhost = true': '5: proxy.host: no such header is read with headers = "none"; write',
    '[proxy]\nheaders = "forwarded"\nprefix = true': "5: proxy.prefix: no such header is read with headers",
    '[[listen]]\nproxy_protocol = "any"\n[proxy]\ntrusted = []': "4: listen.proxy_protocol: proxy.trusted is empty",
    "[[listen]]\nname = 5\n[[listen]]\nbind = ':1'": "4: listen.name: expected text",
}


@pytest.mark.parametrize("text", REFUSED)
def test_keys_that_contradict_each_other_are_refused(text):
    """The one that comes later in the file is blamed, and told of the other."""
    found = problem(text)

    assert found.startswith("f.toml:")
    assert REFUSED[text] in found


def test_ports_that_the_kernel_chooses_do_not_collide():
    """The listener and the metrics get one each."""
    settings = read('[[listen]]\nbind = "127.0.0.1:0"\n[metrics]\nbind = "127.0.0.1:0"\n')

    assert settings.metrics.bind == settings.listen[0].bind


def test_the_default_address_of_the_metrics_gives_way():
    """Nobody asked for it, so it hinders no listener; nor does a written one that is switched off."""
    listen = '[[listen]]\nbind = ":9464"\n'

    assert [":9464"] == [listener.bind for listener in read(listen).listen]
    assert not read(f'{listen}[metrics]\nbind = "127.0.0.1:9464"\nenabled = false\n').metrics.enabled


def test_a_bad_key_hides_no_contradiction_and_makes_none():
    """What is written wrongly is passed over: it is refused for itself."""
    found = problems('[app]\ntarget = 1\n[[listen]]\nbind = "x"\n[[listen]]\nbind = ":1"\n[[listen]]\nbind = ":1"\n')

    assert ["f.toml:2", "f.toml:4", "f.toml:8"] == [line.split(": ")[0] for line in found]


def test_a_listener_names_a_certificate_that_exists(monkeypatch):
    """The one it probably meant is said. (As long as certificates have no effect, they are refused for that alone.)"""
    monkeypatch.setattr(reserved_keys, "RESERVED_KEYS", {})
    text = '[[listen]]\ntls = "mian"\n[tls.main]\ncert = "c"\nkey = "k"\n'

    assert 'f.toml:4: listen.tls: there is no [tls.mian]; did you mean "main"?' == problem(text)
    assert "main" in read(text.replace("mian", "main")).tls
