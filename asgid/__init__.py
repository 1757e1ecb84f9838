"""A pre-fork ASGI server daemon. `docs/architecture.md` is the way in."""

__version__ = "0.1.0"
