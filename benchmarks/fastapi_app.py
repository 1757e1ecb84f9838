"""A JSON answer by FastAPI: what the function returns goes through its serialisation, as its users have it."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def hello() -> dict[str, str]:
    return {"message": "hello, world"}
