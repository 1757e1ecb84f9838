"""A listening socket as a value, for the program that takes the place of this one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ListenerState:
    """One open listening socket. `bind` is the address as the settings have it."""

    bind: str
    name: str
    backlog: int
    inode: int | None  #: of the socket file; None if the socket has no file
    fd: int
    device: int | None = None  #: of the file system that holds the socket file
