"""Forks, in another way for each path; `/pid` responds with the pid of the worker."""

import asyncio
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

fork = multiprocessing.get_context("fork")
children = []


def idle():
    time.sleep(60)


def look(pipe):
    held = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            held[fd] = os.readlink(f"/proc/self/fd/{fd}")
            if "eventpoll" in held[fd]:
                held[fd] += Path(f"/proc/self/fdinfo/{fd}").read_text().partition("tfd:")[1]
        except OSError:
            continue
    pipe.send(held)


def terminate():
    child = fork.Process(target=idle)
    child.start()
    child.terminate()
    child.join(10)
    code = child.exitcode
    child.kill()
    return code


def looks():
    ours, theirs = fork.Pipe()
    child = fork.Process(target=look, args=(theirs,))
    child.start()
    held = ours.recv()
    child.join()
    return held


def status_of(pid):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    return "it lives on"


async def application(scope, receive, send):  # noqa: C901, PLR0912 - a path each
    if scope["type"] == "lifespan":
        await receive()
        if os.environ.get("BACKGROUND"):
            fork.Process(target=idle, daemon=os.environ["BACKGROUND"] == "daemon").start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    answer = os.getpid()
    if path == "/terminate":
        answer = terminate()
    elif path == "/terminate-in-a-thread":
        answer = await asyncio.to_thread(terminate)
    elif path == "/looks":
        answer = await asyncio.to_thread(looks)
    elif path == "/background":
        child = fork.Process(target=idle)
        child.start()
        children.append(child)
        answer = child.pid
    elif path == "/kill":
        for child in children:
            child.kill()
            child.join()
    elif path in {"/exits", "/raises", "/returns", "/awaits"}:
        pid = os.fork()
        if pid == 0:
            if path == "/exits":
                sys.exit(7)
            if path == "/raises":
                raise ValueError("in the child")
            if path == "/awaits":
                await asyncio.sleep(0.01)
        else:
            answer = await asyncio.to_thread(status_of, pid)
    elif path == "/in-a-thread":
        pid = await asyncio.to_thread(os.fork)
        answer = await asyncio.to_thread(status_of, pid)
    body = json.dumps(answer).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
