"""The shortest script that says what is in an image: PIL, NumPy, ONNX Runtime, and nothing else.

usage: python bare_onnxruntime.py MODEL.onnx IMAGE      (ImageNet's preparation, for 224 x 224)
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(model: str, picture: str) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    image = Image.open(picture).convert("RGB")
    factor = 256 / min(image.size)
    image = image.resize([round(factor * side) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - 224) // 2 for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    batch = (pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    batch = batch.transpose(2, 0, 1)[None].astype(np.float32)
    (logits,) = session.run(None, {session.get_inputs()[0].name: batch})
    weights = np.exp(logits[0] - logits[0].max())
    for index in weights.argsort()[:-4:-1]:
        print(index, weights[index] / weights.sum())


if __name__ == "__main__":
    main(*sys.argv[1:])
