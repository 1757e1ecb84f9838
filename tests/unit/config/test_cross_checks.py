"""Contradictions between keys that are valid by themselves."""

import pytest

from asgid.config import reserved_keys
from tests.settings import problem, problems, read

REFUSED = {
    # text below [app]: part of the message
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
    found = problem(text)

    assert found.startswith("f.toml:")
    assert REFUSED[text] in found


def test_two_ports_from_the_kernel_are_no_contradiction():
    settings = read('[[listen]]\nbind = "127.0.0.1:0"\n[metrics]\nbind = "127.0.0.1:0"\n')

    assert settings.metrics.bind == settings.listen[0].bind


def test_the_default_metrics_address_is_no_contradiction():
    """A listener may have the default address, or a written one that is disabled."""
    listen = '[[listen]]\nbind = ":9464"\n'

    assert [":9464"] == [listener.bind for listener in read(listen).listen]
    assert not read(f'{listen}[metrics]\nbind = "127.0.0.1:9464"\nenabled = false\n').metrics.enabled


def test_a_wrong_key_does_not_hide_a_contradiction():
    """The check skips a wrong value, which has a problem of its own."""
    found = problems('[app]\ntarget = 1\n[[listen]]\nbind = "x"\n[[listen]]\nbind = ":1"\n[[listen]]\nbind = ":1"\n')

    assert ["f.toml:2", "f.toml:4", "f.toml:8"] == [line.split(": ")[0] for line in found]


def test_a_listener_must_name_an_existing_certificate(monkeypatch):
    """The message suggests the nearest name. (Certificates are reserved in this version, which the test disables.)"""
    monkeypatch.setattr(reserved_keys, "RESERVED_KEYS", {})
    text = '[[listen]]\ntls = "mian"\n[tls.main]\ncert = "c"\nkey = "k"\n'

    assert 'f.toml:4: listen.tls: there is no [tls.mian]; did you mean "main"?' == problem(text)
    assert "main" in read(text.replace("mian", "main")).tls
