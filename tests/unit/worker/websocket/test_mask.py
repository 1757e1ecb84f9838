"""The two functions that remove a mask, and faults of the compiled one."""

import random
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from asgid.worker.websocket import decoder, mask
from asgid.worker.websocket.mask import fastest_unmask, unmask_in_python

SUFFIX = EXTENSION_SUFFIXES[0]
ANOTHER = Path(str(find_spec("httptools.parser.parser").origin)).read_bytes()  # type: ignore[union-attr] # installed


@pytest.mark.parametrize("function", [unmask_in_python, fastest_unmask()], ids=["in Python", "compiled"])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 15, 16, 17, 125, 4095, 4096, 4097, 8192, 65_537])
@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\x01\x02\x03\x04", b"\xff\0\xa5\x5a"])
def test_each_byte_is_unmasked(function, size, key):
    """Also if the size of the payload is not a multiple of the mask or of a block."""
    payload = random.Random(size).randbytes(size)

    assert payload == function(bytes(byte ^ key[at % 4] for at, byte in enumerate(payload)), key)


def test_the_decoder_uses_the_compiled_function_if_it_is_installed():
    """`websockets` is a dependency of the tests."""
    assert "apply_mask" == vars(decoder)["unmask"].__name__


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"websockets.py": b"raise SystemExit"},
        {"websockets/speedups.py": b"raise SystemExit"},
        {"websockets/__init__.py": b"raise SystemExit"},
        {"websockets/__init__.py": b"", "websockets/speedups.py": b"apply_mask = None"},
        {"websockets/__init__.py": b"", f"websockets/speedups{SUFFIX}": b""},
        {"websockets/__init__.py": b"", f"websockets/speedups{SUFFIX}": b"\x7fELF" * 1000},
        {"websockets/__init__.py": b"", f"websockets/speedups{SUFFIX}": ANOTHER},
    ],
    ids=["nothing", "a module", "no package", "no extension", "in Python", "empty", "garbled", "another extension"],
)
def test_the_function_in_python_is_used_if_no_extension_loads(tmp_path, files):
    """No exception is raised. No file in Python is executed, because it may be a module of the application."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)

    assert unmask_in_python is fastest_unmask([str(tmp_path)])


@pytest.mark.parametrize(
    "module",
    [
        SimpleNamespace(),
        SimpleNamespace(apply_mask=None),
        SimpleNamespace(apply_mask=lambda data: data),
        SimpleNamespace(apply_mask=lambda data, _: data),
        SimpleNamespace(apply_mask=lambda data, key: bytearray(unmask_in_python(data, key))),
        SimpleNamespace(apply_mask=lambda data, key: unmask_in_python(data[:64], key)),
    ],
    ids=["no function", "None", "one argument", "wrong", "a bytearray", "wrong for 65 bytes or more"],
)
def test_an_extension_with_another_function_is_not_used(monkeypatch, module):
    """A few samples check it before it gets the bytes of a client."""
    monkeypatch.setattr(mask, "_extension", lambda _: module)

    assert unmask_in_python is fastest_unmask()


@pytest.mark.parametrize(
    "order", ["asgid.worker.websocket.mask websockets.speedups", "websockets.speedups asgid.worker.websocket.mask"]
)
def test_an_import_of_websockets_works_as_without_asgid(order):
    """With gunicorn the application may be imported first."""
    first, second = order.split()
    code = f"""
import sys
import {first}
assert "websockets" in "{first}" or not [name for name in sys.modules if name.startswith("websockets")]
import {second}
from asgid.worker.websocket import mask
from websockets import frames, speedups
assert mask.unmask is not mask.unmask_in_python and mask.unmask.__name__ == "apply_mask"
assert frames.apply_mask is speedups.apply_mask
assert speedups.apply_mask(b"abc", b"1234") == mask.unmask(b"abc", b"1234")
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)


def test_a_module_of_the_application_is_not_taken_for_the_package(tmp_path):
    """`websockets.py` beside the application has no extension, and the search does not import it."""
    (tmp_path / "websockets.py").write_text("raise SystemExit(3)")

    assert unmask_in_python is fastest_unmask([str(tmp_path), *sys.path])
    assert PathFinder.find_spec("websockets", [str(tmp_path)])
