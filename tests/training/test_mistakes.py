"""The mistakes that a run leaves: where the network finds what it answered, as small images."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import several_dataset, tiny_dataset
from resnets import Machine, open_model, train
from resnets.analysis.features import grad_cam


def pixels(url: str) -> np.ndarray:
    """The pixels (H, W, channels) of a data URL."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@pytest.mark.parametrize("make", [tiny_dataset, several_dataset])
def test_mistakes_say_where_the_network_looked(tmp_path, make):
    """The maps are those of the weights that the run has left, for the class that is wrong."""
    dataset = make(40, 30, side=24)
    settings = ("schedule.iterations=3", "batch_size=8")  # which leaves mistakes to look at
    out = train(
        dataset,
        model="resnet8",
        settings=settings,
        out=tmp_path / "run",
        machine=Machine(quiet=True),
    ).path
    file = out / "mistakes.json"
    mistakes = json.loads(file.read_text())
    assert len(mistakes) > 8  # more than a batch
    assert file.stat().st_size < 4000 * len(mistakes)
    network = open_model(out)
    for mistake in mistakes:
        seen = torch.from_numpy(pixels(mistake["picture"])).permute(2, 0, 1)[None]
        label = torch.tensor([[dataset.classes.index(mistake["predicted"])]])
        cam = grad_cam(network, network.preprocess.normalize(seen), label)["layer3"][0, 0]
        if mistake["heat"]:
            opacity = pixels(mistake["heat"])[..., 3]
            expected = 255 * 0.8 * (cam / cam.max()).numpy() ** 0.7
            np.testing.assert_allclose(opacity, expected, atol=2)
        else:
            assert not cam.any()
    assert any(mistake["heat"] for mistake in mistakes)
    assert "Grad-CAM" in (out / "report.html").read_text()
