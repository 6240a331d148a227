"""Weights whose norms are folded into their convolutions are trained with the norms they had."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import coloured
from resnets import Machine, create_model, train
from resnets.data.preprocess import imagenet
from resnets.training.precise_bn import without_statistics

EPS = 1e-5
# One step on all images at once, which changes nothing.
SETTINGS = ("schedule.iterations=1", "batch_size=24", "augment.padding=0", "optimizer.lr=1e-30")
SETTINGS += ("data.holdout=0", "data.normalize=imagenet", "augment.mirror=false")


@pytest.fixture(scope="module")
def images():
    return [(coloured(i % 2, i, 8), i % 2) for i in range(24)]


@pytest.fixture(scope="module")
def known(images):
    """What a network knows whose norms have the statistics of these images."""
    torch.manual_seed(0)
    network = create_model("resnet8", num_classes=2).eval()
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image, _ in images])
    pixels = imagenet(3, 8)(pixels.permute(0, 3, 1, 2))
    for norm in (each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)):
        seen = []
        with (
            torch.no_grad(),
            norm.register_forward_pre_hook(lambda _, x, seen=seen: seen.extend(x)),
        ):
            network(pixels)
            norm.running_mean.copy_(seen[0].mean((0, 2, 3)))
            norm.running_var.copy_(seen[0].var((0, 2, 3)))
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
    return network.state_dict()


def folded(state, form):
    """The same function without statistics: "onnx" has no norms, "affine" ones that scale."""
    found = dict(state)
    for key in state:
        if not key.endswith(".running_var"):
            continue
        norm = key.removesuffix(".running_var")
        conv = norm.replace("bn", "conv")
        scale = state[f"{norm}.weight"] / (state[key] + EPS).sqrt()
        shift = state[f"{norm}.bias"] - scale * state[f"{norm}.running_mean"]
        if form == "onnx":
            for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                del found[f"{norm}.{leaf}"]
            found[f"{conv}.weight"] = state[f"{conv}.weight"] * scale[:, None, None, None]
            found[f"{conv}.bias"] = shift
        else:
            found |= {f"{norm}.weight": scale, f"{norm}.bias": shift}
            found[f"{norm}.running_mean"] = torch.zeros_like(shift)
            found[key] = torch.full_like(shift, 1 - EPS)
    return found


@pytest.mark.parametrize("form", ["onnx", "affine"])
def test_what_was_folded_comes_back(images, known, tmp_path, capsys, form):
    run = train(
        images,
        model="resnet8",
        weights=folded(known, form),
        settings=SETTINGS,
        recipe="default",
        out=tmp_path / "run",
        machine=Machine(),
    )
    said = capsys.readouterr().err
    assert "its norms only scale and shift: they get statistics of 24 images" in said
    assert said.count("norms folded in") <= 1  # of all at once
    found = load_file(run.path / "model.safetensors")
    # In "onnx" convolutions keep the scales, and the norms' epsilons; statistics follow from these.
    for key in (k for k in known if "conv" not in k and k.endswith((".weight", ".bias"))):
        torch.testing.assert_close(found[key], known[key], rtol=1e-3, atol=1e-5)


def test_norms_that_normalise_or_have_learnt_nothing_are_left(known):
    fresh = create_model("resnet8", num_classes=2)
    zeros = create_model("resnet8", num_classes=2, zero_init_residual=True)
    assert without_statistics(fresh.state_dict()) == []
    assert without_statistics(zeros.state_dict()) == []
    assert without_statistics(known) == []
    assert len(without_statistics(folded(known, "affine"))) == 7
