"""The last words of a worker: the last text, and never in a file of the application."""

import faulthandler
import os
from unittest.mock import Mock

import pytest

from asgid.worker.process.last_words import LastWords


@pytest.fixture
def descriptor():
    fd = os.memfd_create("asgid-last-words")
    yield fd
    os.close(fd)


def test_a_text_replaces_the_one_before(descriptor):
    """Bytes that faulthandler appended go too, and a text that is not UTF-8 has escapes."""
    last_words = LastWords(descriptor)
    last_words.write("a long text")
    os.write(descriptor, b" and a stack")
    last_words.write("caf\xe9 \udcff")

    assert "caf\xe9 \\udcff".encode() == os.pread(descriptor, 100, 0)


def test_nothing_is_written_to_a_reused_descriptor(descriptor, tmp_path, monkeypatch):
    """The application has closed the file, and opened one of its own. faulthandler does not write to it either."""
    disable = Mock()
    monkeypatch.setattr(faulthandler, "disable", disable)
    monkeypatch.setattr(faulthandler, "unregister", Mock())
    last_words = LastWords(descriptor)
    (tmp_path / "its.txt").write_text("its own words")
    with (tmp_path / "its.txt").open("r+") as file:
        os.dup2(file.fileno(), descriptor)
    last_words.write("stack")

    assert "its own words" == (tmp_path / "its.txt").read_text()
    disable.assert_called_once_with()
