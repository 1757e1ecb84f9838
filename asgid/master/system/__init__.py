"""The operating system: signals, systemd, the pid file, the terminal, processors."""
