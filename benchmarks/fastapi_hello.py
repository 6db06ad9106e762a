"""The smallest FastAPI application: what its start takes beyond that of the server."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def home() -> dict[str, str]:
    return {"message": "Hello, World!"}
