"""A Flask application under WSGI: forms, cookies, streams, errors. Streams go on when the file GATE exists."""

import os
import time
from pathlib import Path

from flask import Flask, Response, jsonify, request

GATE = Path(os.environ["GATE"])
application = Flask(__name__)


@application.get("/hello")
def hello():
    return "hello"


@application.post("/upload")
def upload():
    return jsonify(title=request.form["title"], size=len(request.files["file"].read()))


@application.post("/raw")
def raw():
    return str(sum(map(len, iter(lambda: request.stream.read(65536), b""))))


@application.get("/visits")
def visits():
    count = int(request.cookies.get("visits", 0)) + 1
    answer = Response(str(count))
    answer.set_cookie("visits", str(count))
    answer.set_cookie("theme", "dark")
    return answer


@application.get("/stream")
def stream():
    def parts():
        yield "begun\n"
        while not GATE.exists():
            time.sleep(0.01)
        yield "ended\n"

    return Response(parts(), mimetype="text/plain")


@application.get("/large/<int:count>")
def large(count):
    return Response(bytes(1 << 20) for _ in range(count))


@application.get("/fails")
def fails():
    raise ValueError("on purpose")


@application.get("/where/<path:rest>")
def where(rest):
    return f"{rest} {request.script_root} {request.remote_addr} {request.scheme} {request.host}"
