"""What the services of others compute: the file, preparation and answers of `resnets serve`.

MODEL in the environment is an exported .onnx, THREADS how many compute it. The scripts beside this
one that are called `serve_...` are services as users of those frameworks write them: each listens
at PORT and answers POST /predict, with batches as large as those of `resnets serve` where the
framework makes any. LitServe and BentoML take an image as a file of a form.
"""

import json
import os
from typing import Any

import numpy as np
import onnxruntime
from PIL.Image import Image

from resnets.data.preprocess import Preprocess

TOP, BATCH = 3, 8
PORT = int(os.environ["PORT"])


class Classifier:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        known = json.loads(self.session.get_modelmeta().custom_metadata_map["resnets"])
        self.preprocess = Preprocess.from_dict(known["preprocess"])
        self.classes = known["classes"] or [*map(str, range(known["spec"]["num_classes"]))]

    def prepare(self, image: Image) -> Any:
        return self.preprocess.arrays(image)

    def answers(self, images: Any) -> list[dict[str, Any]]:
        logits = self.session.run(None, {"images": images})[0].astype(np.float64)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        found = []
        for row in weights / weights.sum(1, keepdims=True):
            best = np.argsort(-row, kind="stable")[:TOP]
            pairs = [{"class": self.classes[i], "probability": round(row[i], 6)} for i in best]
            found.append({"predictions": pairs})
        return found
