"""Responds with the content of the key "asgid-secret" in its session keyring, or with the error of keyctl(2)."""

import ctypes
import os

KEYCTL = {"x86_64": 250, "aarch64": 219}
SESSION, SEARCH, READ = -3, 10, 11


def keyctl(operation, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = (KEYCTL[os.uname().machine], operation, *arguments)
    result = libc.syscall(*(ctypes.c_long(each) if isinstance(each, int) else each for each in numbers))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def secret():
    content = ctypes.create_string_buffer(100)
    try:
        key = keyctl(SEARCH, SESSION, b"user", b"asgid-secret", 0)
        size = keyctl(READ, key, content, len(content))
    except OSError as error:
        return os.strerror(error.errno).encode()
    return content.raw[:size]


async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": secret()})
