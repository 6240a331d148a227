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


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_images_that_no_picture_shows_whole(tmp_path, capsys, channels):
    """Of more channels than three the first three are shown, of two the first."""
    images = np.random.default_rng(0).integers(0, 256, (24, 16, 16, channels), np.uint8)
    labels = np.arange(24) % 2 * 2  # and none of class 1, which is said
    settings = ("schedule.iterations=2", "batch_size=8", "augment.padding=1")
    out = train((images, labels), model="resnet8", settings=settings, out=tmp_path / "run").path
    mistakes = json.loads((out / "mistakes.json").read_text())
    assert mistakes
    shown = {len(np.atleast_3d(pixels(mistake["picture"]))[0, 0]) for mistake in mistakes}
    assert shown == {3 if channels >= 3 else 1}
    assert "no image to train on is of class 1" in capsys.readouterr().err.splitlines()
