"""Streams made by libFuzzer, guided by the lines of the worker that they reach. A process of its own under `make fuzz`.

Atheris is not a dependency. It instruments modules of the worker when they are imported, so nothing may import them
before; and it exits the process itself.
"""

import importlib
import os
import sys
from typing import Any


def main() -> None:
    # It has no types, and is not always installed.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["asgid.worker"], enable_loader_override=False):
        from tests.fuzz.delivery import BrokenRuleError
        from tests.fuzz.rules import Rules, smallest

    rules = Rules()

    def check(stream: bytes) -> None:
        at = len(stream) * 7 // 11
        broken = None
        try:
            rules.whole(stream)
            rules.cut(stream, [piece for piece in (stream[:at], stream[at:]) if piece])
        except BrokenRuleError as error:
            broken = error
        if broken is not None:
            print(f"{broken}\n{smallest(stream, rules.every_way, broken.rule)!r}", flush=True)
            os._exit(1)

    options = ["-max_len=600", "-verbosity=0", "-print_final_stats=1", "-timeout=20"]
    atheris.Setup([*sys.argv, *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
