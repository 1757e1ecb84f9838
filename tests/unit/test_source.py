"""The source of the settings: a file that is read at every load, or the command line alone."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from asgid.errors import ConfigError
from asgid.source import Source, find_start_directory


def source(
    path: Path | None, *, target: str | None = None, binds=(), overrides=(), machine_checks=lambda _: ()
) -> Source:
    name = "asgid.toml" if path else "the command line"
    return Source(name, path, target, binds, None, dict(overrides), machine_checks)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "asgid.toml"
    path.write_text('[app]\ntarget = "shop:application"\n')
    return path


def test_a_file_is_read_at_every_load(file):
    it = source(file)

    assert it.load().app.target == "shop:application"

    file.write_text('[app]\ntarget = "shop.two:application"\n')

    assert it.load().app.target == "shop.two:application"


def test_the_command_line_overrides_every_load(file):
    binds, overrides = ["127.0.0.1:0", ":8001"], {"workers.count": "3"}
    without = source(None, target="shop:application", binds=binds, overrides=overrides)

    for it in (source(file, binds=binds, overrides=overrides), without):
        settings = it.load()

        assert settings.app.target == "shop:application"
        assert [listen.bind for listen in settings.listen] == ["127.0.0.1:0", ":8001"]
        assert settings.workers.count == 3


def test_a_failed_check_of_this_machine_is_a_problem_of_the_file(file):
    it = source(file, machine_checks=lambda config: [(("app", "target"), f"there is no {config.app.target}")])

    with pytest.raises(ConfigError) as refused:
        it.load()

    assert [str(problem) for problem in refused.value.problems] == [
        "asgid.toml:2: app.target: there is no shop:application"
    ]


def test_a_missing_file_is_a_problem(file):
    file.unlink()

    with pytest.raises(ConfigError) as refused:
        source(file).load()

    assert [str(problem) for problem in refused.value.problems] == [
        "asgid.toml: cannot be read: No such file or directory"
    ]


def test_a_file_in_another_encoding_is_refused_with_its_line(file):
    """TOML is UTF-8."""
    file.write_bytes('[app]\n# caf\xe9\ntarget = "shop:application"\n'.encode("latin-1"))

    with pytest.raises(ConfigError) as refused:
        source(file).load()

    assert [str(problem) for problem in refused.value.problems] == ["asgid.toml:2: this is not UTF-8; TOML must be"]


def test_a_file_may_begin_with_a_byte_order_mark(file):
    """The mark is invisible, so its operator could not find the error."""
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())

    assert source(file).load().app.target == "shop:application"


@pytest.mark.parametrize("value", [None, "shop-plugin"])
def test_a_load_keeps_the_operators_variable_for_pydantic_plugins(file, monkeypatch, value):
    """The variable is for the application's models, in the workers."""
    monkeypatch.delenv("PYDANTIC_DISABLE_PLUGINS", raising=False)
    if value:
        monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", value)
    source(file).load()

    assert os.environ.get("PYDANTIC_DISABLE_PLUGINS") == value


def test_a_reload_refuses_a_fifo_and_a_start_waits_for_it(tmp_path: Path) -> None:
    """A FIFO without a writer would block the master."""
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


def test_a_reload_reads_the_file_again(file: Path) -> None:
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


def test_the_start_directory_is_the_path_of_the_shell(link):
    """The kernel's path has no links."""
    assert find_start_directory({"PWD": str(link)}) == str(link)


@pytest.mark.parametrize("name", ["", ".", "current", "/", "/nowhere/at/all", "{link}/.", "{link}/../current", "/\0"])
def test_a_path_of_the_shell_that_leads_elsewhere_is_ignored(link, name):
    """A program may change its directory without $PWD. `pwd -L` does not print the other paths either."""
    assert find_start_directory({"PWD": name.format(link=link)}) == str(link.resolve())


def test_a_removed_start_directory_has_no_path(link):
    link.resolve().rmdir()

    assert find_start_directory({"PWD": str(link)}) == ""


@pytest.mark.parametrize(("directory", "then"), [(".", "r2"), ("../r1", "r1"), ("{link}", "r2")])
def test_a_load_resolves_the_link_of_the_directory_once(link, directory, then):
    """All workers of a generation import the same release."""
    directory = directory.format(link=link)
    it = replace(source(None, target="shop:app", overrides={"app.directory": directory}), start_directory=str(link))

    assert it.load().app.directory == str(link.parent / "r1")

    (link.parent / "r2").mkdir()
    link.unlink()
    link.symlink_to("r2")

    assert it.load().app.directory == str(link.parent / then)
    assert it.reload().app.directory == it.load().app.directory
    assert it.load_unresolved().app.directory == directory
