"""The master: a selectors loop around a pure supervisor. It never imports asyncio or the worker."""
