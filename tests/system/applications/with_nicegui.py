"""A page of NiceGUI: it counts clicks in the server, over its WebSocket, and shows which process serves it."""

import os

from fastapi import FastAPI
from nicegui import ui

application = FastAPI()


@ui.page("/")
def page() -> None:
    clicks = ui.label("0").props("id=clicks")
    ui.button("click", on_click=lambda: clicks.set_text(str(int(clicks.text) + 1))).props("id=click")
    ui.label(str(os.getpid())).props("id=process")


ui.run_with(application)
