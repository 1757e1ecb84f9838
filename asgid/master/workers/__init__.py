"""The worker processes: fork, messages, exits, and the memory that they share with the master."""
