"""Maps and Grad-CAM against independent computation; nothing is left behind; the page itself."""

import base64
import copy
import io
import re
from contextlib import nullcontext
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from conftest import coloured, scramble
from every_model import each_model
from resnets import ResNet, create_model
from resnets.analysis.features import grad_cam, stage_maps, write_features
from resnets.analysis.features.maps import telling
from resnets.analysis.features.overlays import glow_url, image_url, map_url, overlay_url
from resnets.errors import CheckpointError, DataError, NonFiniteError
from resnets.spec import Spec
from resnets.zoo import ZOO, get_spec

KINDS = [
    "resnet8",
    "resnet8_b",
    "resnet8_v2",
    "resnet8_b_v2",
    "resnet11",
    "resnet11_v2",
    "plain8",
    "keras_resnet8_v1",
    "keras_resnet11_v2",
    "wrn10_2",
    "resnet18",
    "resnet18_v2",
    "timm_resnet18_v2",
    "se_resnet18",
    *(
        replace(get_spec(name), depths=(1, 2, 1, 1))
        for name in ("resnet50_v1", "resnet50d", "keras_applications_resnet50_v2")
    ),
]
ORDERS = [
    replace(get_spec("resnet8"), activation_order=order)
    for order in ("bn_after_addition", "relu_before_addition", "relu_only_preactivation")
]


def scrambled(model: str | Spec, **options) -> ResNet:
    """A float64 model whose batch norms are not trivial, in training mode."""
    torch.manual_seed(0)
    network = create_model(model, num_classes=5, **options).double()
    return scramble(network)


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.rand(2, 3, 32, 32, dtype=torch.float64)


def step_by_step(model: ResNet, images):
    """Each stage's maps, computed one after the other on copies."""
    x = model.bn1(model.conv1(images))
    maps = {"stem": model.activation(x.clone()).clone()}
    x = model.maxpool(maps["stem"].clone())
    for number in range(1, len(model.spec.depths) + 1):
        x = getattr(model, f"layer{number}")(x.clone())
        maps[f"layer{number}"] = x.clone()
    maps[f"layer{number}"] = model.last_activation(model.norm(x.clone()))
    return maps


def rest(model: ResNet, name: str, x):
    """The logits that follow from a stage's maps."""
    last = len(model.spec.depths)
    start = 0 if name == "stem" else int(name.removeprefix("layer"))
    if start < last:
        x = model.maxpool(x) if name == "stem" else x
        for number in range(start + 1, last + 1):
            x = getattr(model, f"layer{number}")(x)
        x = model.last_activation(model.norm(x))
    return F.linear(x.mean((2, 3)), model.fc.weight, model.fc.bias)


@pytest.mark.parametrize("model", [*KINDS, *ORDERS], ids=str)
@torch.no_grad()
def test_maps_are_those_of_the_stages(model, images):
    network = scrambled(model)
    maps = stage_maps(network, images)
    network.eval()
    expected = step_by_step(network, images)
    assert list(maps) == list(expected)
    for name, values in expected.items():
        assert torch.equal(maps[name], values), name
    assert torch.equal(rest(network, list(maps)[-1], list(maps.values())[-1]), network(images))


@pytest.mark.parametrize("model", [*KINDS, *ORDERS], ids=str)
def test_grad_cam_follows_the_paper(model, images):
    """Selvaraju et al. 2017, eq. 1 and 2, each stage on its own, with autograd."""
    network = scrambled(model)
    classes = torch.tensor([[3, 0], [1, 4]])
    cams = grad_cam(network, images, classes)
    network.eval()
    for name, values in step_by_step(network, images).items():
        maps = values.detach().requires_grad_()
        for sample, row in enumerate(classes):
            for place, label in enumerate(row):
                logit = rest(network, name, maps)[sample, label]
                (gradient,) = torch.autograd.grad(logit, maps)
                alpha = gradient[sample].mean((1, 2))
                expected = F.relu(torch.einsum("c,chw->hw", alpha, values[sample]))
                torch.testing.assert_close(
                    cams[name][sample, place], expected.detach(), rtol=1e-9, atol=1e-12
                )


@torch.no_grad()
def test_grad_cam_without_autograd(images):
    """The mean gradient of a channel is how the logit changes when all of its map is raised."""
    network = scrambled("resnet8_v2")
    cam = grad_cam(network, images, torch.tensor([[2], [2]]))["layer2"][:, 0]
    network.eval()
    maps = step_by_step(network, images)["layer2"]
    step, area = 1e-6, maps[0, 0].numel()
    alpha = torch.empty(maps.shape[:2], dtype=torch.float64)
    for channel in range(maps.shape[1]):
        raised = torch.zeros_like(maps)
        raised[:, channel] = step
        change = rest(network, "layer2", maps + raised) - rest(network, "layer2", maps - raised)
        alpha[:, channel] = change[:, 2] / (2 * step * area)
    expected = F.relu(torch.einsum("nc,nchw->nhw", alpha, maps))
    torch.testing.assert_close(cam, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("model", ["resnet8", "resnet11_v2", "resnet18", "plain8"])
def test_grad_cam_of_a_class_that_reads_one_channel(model, images):
    """With a weight of 2 on channel 3 alone, it is 2 / (H W) times that channel's map."""
    network = scrambled(model)
    torch.nn.init.zeros_(network.fc.weight)
    with torch.no_grad():
        network.fc.weight[1, 3] = 2
        network.fc.weight[4, 3] = -2
    last = f"layer{len(network.stages)}"
    cams = grad_cam(network, images, torch.tensor([[1, 4, 0], [1, 4, 0]]))[last]
    channel = stage_maps(network, images)[last][:, 3]
    area = channel[0].numel()
    torch.testing.assert_close(cams[:, 0], F.relu(2 / area * channel))
    torch.testing.assert_close(cams[:, 1], F.relu(-2 / area * channel))
    assert not cams[:, 2].any()


@pytest.mark.parametrize("name", each_model())
def test_every_model_on_meta(name):
    with torch.device("meta"):
        model = ResNet(ZOO[name])
        side = model.spec.image_size
        cams = grad_cam(model, torch.empty(1, 3, side, side), torch.zeros(1, 2, dtype=torch.int64))
        maps = stage_maps(model, torch.empty(1, 3, side, side))
    assert list(cams) == list(maps) == ["stem", *(f"layer{i + 1}" for i in range(len(cams) - 1))]
    channels = (model.spec.stem_width, *model.spec.channels)
    for (stage, values), width in zip(maps.items(), channels, strict=True):
        assert values.shape[:2] == (1, width)
        assert cams[stage].shape == (1, 2, *values.shape[2:])


def trace(model):
    """Everything that listening to a model could leave in it."""
    return [
        [
            (
                name,
                module.training,
                [len(v) for k, v in vars(module).items() if k.endswith("hooks")],
                sorted(vars(module)),
            )
            for name, module in model.named_modules()
        ],
        [(p.requires_grad, p._version) for p in model.parameters()],
        [buffer._version for buffer in model.buffers()],
    ]


@pytest.mark.parametrize("guard", [nullcontext, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("model", ["resnet8", "resnet11_v2"])
def test_nothing_is_left_behind(model, guard, images):
    network = scrambled(model)
    network.layer1.eval()  # a mixed mode comes back as it was
    network.conv1.weight.requires_grad_(False)
    network.layer2.register_forward_hook(lambda *_: None)
    network(images).sum().backward()
    gradients = [p.grad if p.grad is None else p.grad.clone() for p in network.parameters()]
    state = copy.deepcopy(network.state_dict())
    before = trace(network)
    generator = torch.get_rng_state()
    with guard():
        maps = stage_maps(network, images)
        cams = grad_cam(network, images, torch.tensor([[0], [1]]))
    assert trace(network) == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert not any(t.requires_grad for t in (*maps.values(), *cams.values(), images))


def test_nothing_is_left_behind_by_a_failure():
    network = create_model("resnet8")
    before = trace(network)
    with pytest.raises(RuntimeError):
        stage_maps(network, torch.zeros(1, 5, 32, 32))
    with pytest.raises((RuntimeError, IndexError)):
        grad_cam(network, torch.zeros(1, 3, 32, 32), torch.tensor([[10]]))
    assert trace(network) == before


def test_frozen_parameters_do_not_matter(images):
    network = scrambled("resnet8")
    classes = torch.tensor([[0], [1]])
    cams = grad_cam(network, images, classes)
    network.requires_grad_(False)
    for name, frozen in grad_cam(network, images, classes).items():
        assert torch.equal(frozen, cams[name])


def opened(url: str, mode: str = "RGB") -> np.ndarray:
    kind, _, encoded = url.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert(mode)).astype(int)


def test_a_picture_is_shown_exactly():
    for channels in (1, 3):
        pixels = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
        shown = opened(image_url(pixels))
        assert (shown == pixels.permute(1, 2, 0).expand(-1, -1, 3).numpy()).all()


def test_a_map_goes_from_dark_to_bright():
    light = opened(map_url(torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 8.0]]))).sum(2)
    assert (np.diff(light.ravel()) > 0).all()
    # From zero, not from the least value, unless that is lower.
    assert opened(map_url(torch.tensor([[3.0, 4.0]]))).sum(2)[0, 0] > 300
    assert opened(map_url(torch.tensor([[-1.0, 0.0]]))).sum(2)[0, 0] < 20
    assert opened(map_url(torch.tensor([[-2.0, -1.0]]))).sum(2)[0, 1] > 300
    assert opened(map_url(torch.zeros(2, 2))).max() < 10


def test_heat_glows_where_it_is():
    pixels = torch.full((3, 16, 16), 100, dtype=torch.uint8)
    bare = opened(overlay_url(pixels, torch.zeros(4, 4)))
    assert bare.shape == (192, 192, 3)  # enlarged by a whole factor
    assert bare.std() < 1
    heat = torch.zeros(4, 4)
    heat[0, 3] = 0.01  # however little: its own greatest value counts
    warm = opened(overlay_url(pixels, heat))
    changed = np.abs(warm - bare).sum(2)
    assert changed[:24, -24:].min() > 100  # top right
    assert changed[96:].max() < 10
    assert changed[:, :96].max() < 10


def test_glow_is_the_overlay_for_a_page_to_stretch():
    assert glow_url(torch.zeros(4, 4)) == ""
    heat = torch.tensor([[0.0, 1.0, 2.0], [4.0, 0.0, 0.0]])
    url = glow_url(heat)
    assert len(url) < 400
    glow = opened(url, "RGBA")
    assert np.array_equal(glow, opened(glow_url(heat / 7), "RGBA"))  # its own greatest value counts
    alpha = 0.8 * (heat / 4).numpy() ** 0.7
    np.testing.assert_allclose(glow[..., 3], 255 * alpha, atol=0.5)
    over = opened(overlay_url(torch.zeros(3, 2, 3, dtype=torch.uint8), heat)).reshape(
        2, 64, 3, 64, 3
    )
    middle = over[:, 28:36, :, 28:36].mean((1, 3))  # JPEG's, and smooth between positions
    np.testing.assert_allclose(middle, glow[..., :3] * glow[..., 3:] / 255, atol=30)


@pytest.mark.parametrize(
    ("side", "name"), [(32, "layer2"), (64, "layer3"), (128, "layer4"), (8, "layer1")]
)
def test_where_is_told_by_the_last_stage_that_has_places(side, name):
    cams = grad_cam(
        create_model("resnet18", num_classes=2), torch.rand(1, 3, side, side), torch.tensor([[1]])
    )
    assert telling(cams) is cams[name]


class Page(HTMLParser):
    """A page's text and addresses; checks that tags are closed in order and nothing is fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.words, self.pictures, self.open = html, [], [], []
        self.feed(html)
        self.close()
        assert not self.open
        assert "Content-Security-Policy" in html

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "iframe", "object", "embed", "form")
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value.startswith("data:")
        if tag == "img":
            self.pictures.append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture
def picture(tmp_path):
    coloured(1, 0).save(tmp_path / "a <b>.png")
    return tmp_path / "a <b>.png"


@pytest.mark.parametrize("name", ["resnet8", "resnet8_v2", "plain8", "resnet18", "resnet50_v2"])
def test_the_page(name, picture, tmp_path):
    torch.manual_seed(0)
    model = create_model(name, num_classes=4, image_size=32)
    model.classes = ("ash", "<i>birch</i>", "cedar", "dill")
    out = write_features(model, picture, tmp_path / "new" / "page.html", top=2, source="runs/x")
    page = Page(out.read_text("utf-8"))
    with torch.no_grad():
        best = model.eval()(model.preprocess(picture)).softmax(1)[0].topk(2)
    for probability, index in zip(best.values, best.indices, strict=True):
        assert f"{model.classes[index]} {100 * probability:.1f} %" in page.text
    assert f"{name} sees {model.classes[best.indices[0]]} in a <b>.png" in page.text
    assert "runs/x" in page.text
    assert "has learnt nothing" not in page.text
    assert ("pre-activation net" in page.text) == name.endswith("_v2")
    stages = len(model.stages)
    maps = [p for p in page.pictures if "channel" in p["alt"] or "mean" in p["alt"]]
    assert len(maps) == 13 * (stages + 1)
    assert len([p for p in page.pictures if "finds" in p["alt"]]) == 2 * stages
    seen = opened(page.pictures[0]["src"])
    assert (seen == np.asarray(Image.open(picture).convert("RGB").resize((32, 32), 2))).all()


def test_the_page_shows_the_strongest_channels(picture, tmp_path):
    model = create_model("resnet8", image_size=32)
    text = write_features(model, picture, tmp_path).read_text("utf-8")
    assert (tmp_path / "features.html").is_file()
    maps = stage_maps(model, model.preprocess(picture))["layer3"][0]
    order = maps.square().mean((1, 2)).argsort(descending=True)[:12].tolist()
    shown = re.findall(r'alt="layer3, channel (\d+)" title="\S+ to (\S+)"', text)
    assert [int(channel) for channel, _ in shown] == order
    for channel, most in shown:
        assert float(most) == pytest.approx(maps[int(channel)].max().item(), rel=5e-3)


def test_the_page_of_an_untrained_net_says_so(picture, tmp_path):
    model = create_model("resnet8", image_size=32)
    page = Page(write_features(model, picture, tmp_path, learnt=False, top=99).read_text("utf-8"))
    assert "What an untrained resnet8 makes of" in page.text
    assert "has learnt nothing" in page.text
    assert "sees" not in page.text.partition("Where it looks")[0].replace("network sees it", "")


def test_a_class_that_nothing_speaks_for(picture, tmp_path):
    model = create_model("resnet8", num_classes=2, image_size=32)
    torch.nn.init.zeros_(model.fc.weight)
    page = Page(write_features(model, picture, tmp_path).read_text("utf-8"))
    assert page.text.count("Nothing in layer3 speaks for it") == 2


def test_a_page_of_grey_pictures(picture, tmp_path):
    model = create_model("resnet8", in_channels=1, image_size=32)
    assert "32×32 in grey" in Page(write_features(model, picture, tmp_path).read_text()).text


def test_equal_input_gives_equal_pages(picture, tmp_path):
    torch.manual_seed(0)
    model = create_model("resnet8", image_size=32)
    one = write_features(model, picture, tmp_path / "1.html").read_bytes()
    assert write_features(model, picture, tmp_path / "2.html").read_bytes() == one


def test_what_cannot_be_shown(picture, tmp_path):
    model = create_model("resnet8", image_size=32)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match="is text, not an image"):
        write_features(model, tmp_path / "text.png", tmp_path / "x.html")
    torch.nn.init.constant_(model.fc.weight, float("nan"))
    with pytest.raises(NonFiniteError):
        write_features(model, picture, tmp_path / "x.html")
    model.preprocess = None
    with pytest.raises(CheckpointError, match="how images must be prepared"):
        write_features(model, picture, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()
