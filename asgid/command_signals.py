"""The signals by which an operator commands the master; a module of its own, because they are blocked first of all."""

import signal

#: The default action of these signals must never end the program, at any moment of its life.
COMMANDS = (
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
