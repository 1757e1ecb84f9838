"""Warnings of the master at its start."""

from typing import cast

import pytest

from asgid import config
from asgid.log import Log
from asgid.master.main import _warn_at_start

WARNING = "any client can forge its address: other machines can connect, and proxy.trusted accepts them all"


class _Recorder:
    def __init__(self) -> None:
        self.events: list[str] = []

    def warning(self, event: str) -> None:
        self.events.append(event)


@pytest.mark.parametrize(
    ("trusted", "bound", "is_warned"),
    [
        ('["*"]', ["0.0.0.0:80"], True),
        ('["*"]', ["[::]:80"], True),
        ('["unix", "*"]', ["127.0.0.1:80", "192.0.2.1:80"], True),
        ('["*"]', ["127.0.0.1:80", "[::1]:80", "unix:/run/a", "unix:@a"], False),
        ('["10.0.0.0/8"]', ["0.0.0.0:80"], False),
    ],
)
def test_a_proxy_list_with_every_peer_is_a_warning(trusted, bound, is_warned):
    """Unless only processes of this machine can connect."""
    recorder = _Recorder()
    settings = config.parse(f"[proxy]\ntrusted = {trusted}\n", "f.toml", target="a:b")
    _warn_at_start(settings, cast("Log", recorder), bound)

    assert is_warned == (WARNING in recorder.events)
