"""Where settings come from: a file that is read anew each time, or the command line alone."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from asgid.errors import ConfigError
from asgid.source import Source, place_of_start


def source(path: Path | None, *, target: str | None = None, binds=(), overrides=(), faults=lambda _: ()) -> Source:
    return Source("asgid.toml" if path else "the command line", path, target, binds, None, dict(overrides), faults)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "asgid.toml"
    path.write_text('[app]\ntarget = "shop:application"\n')
    return path


def test_a_file_is_read_anew_at_every_load(file):
    """A reload finds what stands in it then."""
    it = source(file)

    assert it.load().app.target == "shop:application"

    file.write_text('[app]\ntarget = "shop.two:application"\n')

    assert it.load().app.target == "shop.two:application"


def test_what_the_command_line_says_holds_at_every_load(file):
    """Over the file, or without one."""
    binds, overrides = ["127.0.0.1:0", ":8001"], {"workers.count": "3"}
    without = source(None, target="shop:application", binds=binds, overrides=overrides)

    for it in (source(file, binds=binds, overrides=overrides), without):
        settings = it.load()

        assert settings.app.target == "shop:application"
        assert [listen.bind for listen in settings.listen] == ["127.0.0.1:0", ":8001"]
        assert settings.workers.count == 3


def test_faults_of_this_machine_are_problems_of_the_file(file):
    """With the place of the key."""
    it = source(file, faults=lambda config: [(("app", "target"), f"there is no {config.app.target}")])

    with pytest.raises(ConfigError) as refused:
        it.load()

    assert [str(problem) for problem in refused.value.problems] == [
        "asgid.toml:2: app.target: there is no shop:application"
    ]


def test_a_file_that_is_gone_is_said_to_be(file):
    """In the words of the system."""
    file.unlink()

    with pytest.raises(ConfigError) as refused:
        source(file).load()

    assert [str(problem) for problem in refused.value.problems] == [
        "asgid.toml: cannot be read: No such file or directory"
    ]


def test_a_file_in_another_encoding_is_refused_at_the_line_where_it_shows(file):
    """TOML is UTF-8."""
    file.write_bytes('[app]\n# caf\xe9\ntarget = "shop:application"\n'.encode("latin-1"))

    with pytest.raises(ConfigError) as refused:
        source(file).load()

    assert [str(problem) for problem in refused.value.problems] == ["asgid.toml:2: this is not UTF-8, which TOML is"]


def test_a_file_may_begin_with_a_byte_order_mark(file):
    """Nobody sees it who looks for what is wrong in the first line."""
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())

    assert source(file).load().app.target == "shop:application"


@pytest.mark.parametrize("said", [None, "shop-plugin"])
def test_what_the_operator_says_of_pydantics_plugins_is_left_as_it_was(file, monkeypatch, said):
    """It is meant for the application's models, in the workers."""
    monkeypatch.delenv("PYDANTIC_DISABLE_PLUGINS", raising=False)
    if said:
        monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", said)
    source(file).load()

    assert os.environ.get("PYDANTIC_DISABLE_PLUGINS") == said


def test_a_reload_waits_for_no_file(tmp_path: Path) -> None:
    """Nobody writes to a FIFO, and the master that reads it would answer nothing any more: it is refused at once."""
    fifo = tmp_path / "asgid.toml"
    os.mkfifo(fifo)
    it = source(fifo)

    with pytest.raises(ConfigError, match="not a regular file"):
        it.reload()

    writer = threading.Thread(target=fifo.write_text, args=('[app]\ntarget = "shop:application"\n',))
    writer.start()
    started = it.load()
    writer.join()

    assert started.app.target == "shop:application"


def test_a_reload_reads_the_file_anew(file: Path) -> None:
    """As a start does; what cannot be read is refused."""
    it = source(file)
    file.write_text('[app]\ntarget = "shop.two:application"\n')

    assert it.reload().app.target == "shop.two:application"

    file.unlink()

    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        it.reload()


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A link to the working directory."""
    (tmp_path / "r1").mkdir()
    (tmp_path / "current").symlink_to("r1")
    monkeypatch.chdir(tmp_path / "current")
    return tmp_path / "current"


def test_the_working_directory_has_the_name_that_the_shell_has_for_it(link):
    """The link, which the kernel does not know."""
    assert place_of_start({"PWD": str(link)}) == str(link)


@pytest.mark.parametrize("name", ["", ".", "current", "/", "/nowhere/at/all", "{link}/.", "{link}/../current", "/\0"])
def test_a_name_that_is_not_one_is_not_believed(link, name):
    """Programs change their directory and leave $PWD as it was; the others `pwd -L` does not print either."""
    assert place_of_start({"PWD": name.format(link=link)}) == str(link.resolve())


def test_a_directory_that_was_removed_has_no_name(link):
    """What is named from there leads nowhere."""
    link.resolve().rmdir()

    assert place_of_start({"PWD": str(link)}) == ""


@pytest.mark.parametrize(("directory", "then"), [(".", "r2"), ("../r1", "r1"), ("{link}", "r2")])
def test_a_run_follows_the_link_once_at_each_load(link, directory, then):
    """All workers of a generation import from one release."""
    directory = directory.format(link=link)
    it = replace(source(None, target="shop:app", overrides={"app.directory": directory}), place=str(link))

    assert it.load().app.directory == str(link.parent / "r1")

    (link.parent / "r2").mkdir()
    link.unlink()
    link.symlink_to("r2")

    assert it.load().app.directory == str(link.parent / then)
    assert it.reload().app.directory == it.load().app.directory
    assert it.written().app.directory == directory
