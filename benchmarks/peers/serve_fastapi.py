"""A service in plain FastAPI: each request in a thread, one image at a time."""

import io
from typing import Any

import uvicorn
from classifier import PORT, Classifier
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image

classifier, app = Classifier(), FastAPI()


def answer(data: bytes) -> dict[str, Any]:
    return classifier.answers(classifier.prepare(Image.open(io.BytesIO(data))))[0]


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    return await run_in_threadpool(answer, await request.body())


if __name__ == "__main__":
    uvicorn.run(app, port=PORT, log_level="warning", access_log=False)
