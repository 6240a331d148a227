"""A run on whole photographs: the same weights from any container, stopped or not."""

import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import left

from conftest import signal_at
from resnets.data.encoding import Encoding
from resnets.data.packing import pack
from resnets.data.sources import open_listing
from resnets.errors import Stopped
from resnets.training.recipe import load_recipe
from resnets.training.train import train

SETTINGS = ["schedule.epochs=2", "batch_size=7", "data.holdout=4", "data.image_size=24"]
AREA = ["augment.padding=0", "augment.area=[0.2,1]", "augment.policy=trivialaugment"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # it takes seconds to load


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """JPEG files of many shapes, one on its side."""
    root = tmp_path_factory.mktemp("whole") / "photos"
    draw = np.random.default_rng(0)
    for number in range(24):
        folder = root / ("cat" if number < 12 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        rough = draw.integers(0, 256, (6, 9, 3), np.uint8)
        image = Image.fromarray(rough).resize((60 + 3 * number, 90 - 2 * number))
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 5 else 1
        image.save(folder / f"{number:02}.jpg", quality=90, exif=exif)
    return root


@pytest.mark.parametrize("how", [[], AREA], ids=["padded", "area"])
def test_stopped_or_not_from_a_folder_a_pack_or_a_tar(photos, tmp_path, how):
    recipe = load_recipe("default", [*SETTINGS, *how])
    pack(open_listing(photos), tmp_path / "photos.pack", Encoding(side=0))
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos, ".")

    def run(data: Path, out: str) -> dict[str, object]:
        train(data, model="resnet8", recipe=recipe, out=tmp_path / out, quiet=True)
        return {key: left(tmp_path / out)[key] for key in ("weights", "metrics", "ledger")}

    whole = run(photos, "whole")
    kind = "tar" if how else "pack"
    assert run(tmp_path / f"photos.{kind}", kind) == whole
    with signal_at(4), pytest.raises(Stopped):
        run(photos, "stopped")
    train(resume=tmp_path / "stopped", quiet=True)
    assert left(tmp_path / "stopped") == left(tmp_path / "whole")
