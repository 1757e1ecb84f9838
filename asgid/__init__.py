"""A pre-fork ASGI server daemon; start with `docs/architecture.md`."""

__version__ = "0.1.0"
