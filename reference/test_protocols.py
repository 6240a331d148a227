"""The crops of protocols are those of torchvision's own transforms, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from resnets import create_model
from resnets.data.preprocess import Preprocess
from resnets.evaluation.averaged import Averaged
from resnets.evaluation.protocols import Protocol, asked
from resnets.inference.runtimes.torch_runtime import Network


def photograph(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def shown(protocol: Protocol, image: Image.Image) -> np.ndarray:
    """The views of an image as pixels, (V, H, W, C), in an order of their own."""
    model = create_model("resnet8", image_size=224)
    model.preprocess, model.outputs = Preprocess(3, 256, 224, (0.0,) * 3, (1.0,) * 3), "softmax"
    ((views,),) = Averaged(Network(model), protocol).prepare(image)
    return (255 * views).round().astype(np.uint8).transpose(0, 2, 3, 1)


def as_sets(views) -> list[bytes]:
    return sorted(np.asarray(view).tobytes() for view in views)


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (231, 231), (256, 701)])
def test_ten_crops(size):
    image = photograph(*size)
    ten = transforms.TenCrop(224)
    scaled = transforms.Resize(256)(image)
    assert as_sets(shown(asked("fb-ten-crops"), image)) == as_sets(ten(scaled))
    square = transforms.CenterCrop(256)(scaled)
    if (max(scaled.size) - 256) % 4 == 0:  # the square is cut so that its own middle agrees
        assert as_sets(shown(asked("he2015-ten-crops"), image)) == as_sets(ten(square))
    middle = shown(asked("he2015-ten-crops"), image)[0]
    assert np.array_equal(middle, transforms.CenterCrop(224)(scaled))


@pytest.mark.parametrize("size", [(500, 375), (333, 501), (231, 230)])
@pytest.mark.parametrize(
    ("protocol", "resize", "crop"),
    [
        (asked("torchvision-v2"), 232, 224),
        (asked("timm-0.95"), 235, 224),
        (asked("resnext-320"), 320, 320),
        (asked(size=320), 365, 320),
    ],
)
def test_single_crops(size, protocol, resize, crop):
    image = photograph(*size)
    expected = transforms.CenterCrop(crop)(transforms.Resize(resize)(image))
    (view,) = shown(protocol, image)
    assert np.array_equal(view, expected)
