"""The worker as one process among others: privileges, the master, the clock, children, the end."""
