"""Which workers there should be: decisions as values, without a process or a clock."""
