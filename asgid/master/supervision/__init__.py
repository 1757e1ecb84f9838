"""Which workers should run: decisions as values, without a process and without a clock."""
