"""A client of OpenAI's library: `client_litellm.py URL KEY` asks until its input ends, and never tries twice."""

import sys
from threading import Event, Thread

from openai import OpenAI

ends = Event()


def read() -> None:
    sys.stdin.read()
    ends.set()


Thread(target=read, daemon=True).start()
client = OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)
question = {"model": "mock", "messages": [{"role": "user", "content": "What happened?"}]}
while not ends.wait(0.1):
    whole = client.chat.completions.create(**question).choices[0].message.content
    parts = [part.choices[0].delta.content or "" for part in client.chat.completions.create(**question, stream=True)]
    assert "".join(parts) == whole, (parts, whole)
    print("asked", len(parts), flush=True)
print("left", flush=True)
