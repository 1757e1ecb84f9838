"""The signals by which an operator commands the master. Nothing else is here: they are blocked before other imports."""

import signal

#: None of them may kill the program by default action, at any moment of its life.
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
