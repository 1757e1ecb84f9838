"""A WSGI application that delays each request until the file GATE exists; it responds with the max number of
requests at once.
"""

import os
import threading
import time
from pathlib import Path

GATE = Path(os.environ["GATE"])
count = threading.Lock()
held = most = 0


def application(environ, start_response):
    global held, most  # noqa: PLW0603 - a count for the whole worker is what this application is for
    with count:
        held += 1
        most = max(most, held)
    print("holds", flush=True)
    while not GATE.exists():
        time.sleep(0.01)
    with count:
        held -= 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"held most=%d" % most]
