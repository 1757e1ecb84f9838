"""Sockets of clients: accept, read and write in turns, close. Nothing here knows HTTP."""
