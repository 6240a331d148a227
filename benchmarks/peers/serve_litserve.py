"""A service in LitServe, with its batches; a process of its own decodes and computes."""

from typing import Any

import litserve
import numpy as np
from classifier import BATCH, PORT, Classifier
from fastapi import Request
from PIL import Image


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.classifier = Classifier()

    def decode_request(self, request: Request) -> Any:
        return self.classifier.prepare(Image.open(request["images"].file))

    def batch(self, inputs: list[Any]) -> Any:
        return np.concatenate(inputs)

    def predict(self, images: Any) -> list[dict[str, Any]]:
        return self.classifier.answers(images)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(max_batch_size=BATCH), accelerator="cpu")
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False)
