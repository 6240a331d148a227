"""v1 or v1.5: in the variant that was trained, norms meet the statistics they have stored."""

import pytest
import torch
import torch.nn.functional as F

from resnets import create_model, save_weights
from resnets.data import open_dataset
from resnets.data.samples import write_samples
from resnets.errors import CheckpointError
from resnets.evaluation.variants import compare_variants
from resnets.weights.checkpoint import open_checkpoint


@pytest.mark.parametrize(("stride", "name"), [("1x1", "v1"), ("3x3", "v1.5")])
def test_the_trained_variant_is_surer(stride, name, tmp_path):
    torch.manual_seed(0)
    digits = open_dataset("digits")
    sizes = {"in_channels": 1, "widths": (4, 8, 16), "stem_width": 16}
    model = create_model("resnet11", bottleneck_stride=stride, **sizes)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
    for step in range(80):
        if step == 40:  # statistics catch up, as they do while a schedule's last rates are small
            optimizer.param_groups[0]["lr"] = 0.0
        images, labels = digits.train.batch(torch.randperm(len(digits.train))[:32])
        loss = F.cross_entropy(model(images.float() / 255), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    pictures = write_samples(digits, "test", 50, tmp_path / "pictures")
    best, other = compare_variants(open_checkpoint(tmp_path / "weights.pth"), pictures)
    assert best.variant == name
    assert best.deviation < 0.8 * other.deviation
    assert 0 < other.confidence < 1
    assert best.pictures == other.pictures == 50


def test_what_has_no_variants_is_refused(tmp_path):
    save_weights(create_model("resnet18"), tmp_path / "basic.safetensors")
    with pytest.raises(CheckpointError, match="has no variants v1 and v1"):
        compare_variants(open_checkpoint(tmp_path / "basic.safetensors"), [])
