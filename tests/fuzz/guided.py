"""Streams that libFuzzer makes, guided by the lines of the worker that they reach.

A process of its own under `make fuzz`. Atheris is no dependency. It puts its counters into the worker's modules as they
are imported, so nothing may import them before; and it ends the process itself.
"""

import importlib
import os
import sys
from typing import Any


def main() -> None:
    # Without types, and not always there.
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
