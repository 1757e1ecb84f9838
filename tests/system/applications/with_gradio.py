"""A form of Gradio: one answer at once, and one in parts until the file GATE exists."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
from fastapi import FastAPI


def greet(name: str) -> str:
    return f"Hello, {name}!"


def wait() -> Iterator[str]:
    number = 0
    while not Path(os.environ["GATE"]).exists():
        number += 1
        yield f"{number}"
        time.sleep(0.1)
    yield f"open after {number}, in {os.getpid()}"


with gr.Blocks(analytics_enabled=False) as form:
    name, greeting = gr.Textbox(elem_id="name"), gr.Textbox(elem_id="greeting")
    gr.Button("greet", elem_id="greet").click(greet, name, greeting)
    waited = gr.Textbox(elem_id="waited")
    gr.Button("wait", elem_id="wait").click(wait, None, waited)

application = gr.mount_gradio_app(FastAPI(), form, path="")
