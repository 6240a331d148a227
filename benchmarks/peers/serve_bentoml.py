"""A service in BentoML, with its adaptive batches."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from classifier import BATCH, PORT, Classifier
from PIL.Image import Image


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Service:
    def __init__(self) -> None:
        self.classifier = Classifier()

    @bentoml.api(batchable=True, max_batch_size=BATCH)
    def predict(self, images: list[Image]) -> list[dict[str, Any]]:
        prepared = [self.classifier.prepare(image) for image in images]
        return self.classifier.answers(np.concatenate(prepared))


if __name__ == "__main__":
    command = Path(sys.executable).with_name("bentoml")  # which imports the service by its name
    os.chdir(Path(__file__).parent)
    os.environ["BENTOML_DO_NOT_TRACK"] = "true"
    words = ["serve", "serve_bentoml:Service", "--host", "127.0.0.1", "--port", str(PORT)]
    os.execv(command, [str(command), *words])
