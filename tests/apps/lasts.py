"""Leaves something running at its end, by KIND (environment), and writes its steps to MARKS."""

import asyncio
import atexit
import multiprocessing
import os
import threading
import time

KIND = os.environ["KIND"]


generators = []


def mark(word):
    with open(os.environ["MARKS"], "a") as file:
        file.write(f"{word}\n")


def never_returns():
    while True:
        time.sleep(0.1)


def finishes():
    time.sleep(1)
    mark("finished")


def asks_the_loop(loop):
    time.sleep(0.5)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    mark("finished")


async def swallows():
    while True:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            mark("cancelled")


async def generates():
    try:
        yield 1
    finally:
        await asyncio.sleep(60)


async def takes_one():
    generators.append(generates())
    await anext(generators[0])


def begin():
    loop = asyncio.get_running_loop()
    if KIND == "thread":
        threading.Thread(target=never_returns, name="consumer").start()
    elif KIND == "daemon":
        threading.Thread(target=never_returns, daemon=True).start()
    elif KIND == "executor":
        loop.run_in_executor(None, never_returns)
    elif KIND == "job":
        loop.run_in_executor(None, finishes)
    elif KIND == "loop":
        loop.run_in_executor(None, asks_the_loop, loop)
    elif KIND == "task":
        begin.task = asyncio.create_task(swallows(), name="poller")
    elif KIND == "generator":
        begin.task = asyncio.create_task(takes_one())
    elif KIND == "exit":
        atexit.register(never_returns)
    elif KIND == "child":
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(5,)).start()


async def application(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    atexit.register(mark, "exit handler")
    begin()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    mark("shutdown")
    await send({"type": "lifespan.shutdown.complete"})
    if KIND == "lifespan":
        await swallows()
