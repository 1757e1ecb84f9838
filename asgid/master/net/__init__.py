"""Sockets of the master: TCP and unix sockets that it binds, and the clients of its own pages."""
