"""Networks under names that nobody has listed: found and aligned by order, shapes and numbers.

Whatever a file's keys are called, its tensors come back under ours, bit for bit, or the file is
refused with a reason; never are they exchanged in silence.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import cycle
from random import Random

import pytest
import torch
from renaming import ORDERS, UNNUMBERED, Scheme, mixed, renamed, shapes_of, tagged
from safetensors.torch import save_file
from torch import Tensor

from conftest import scramble
from every_model import EVERY_KIND, each_model
from resnets import create_backbone, create_model, load_weights, open_model
from resnets.errors import CheckpointError
from resnets.spec import Spec
from resnets.weights.checkpoint import open_checkpoint
from resnets.zoo import ZOO, get_spec

# One habit at a time; the other words are nonsense, but where `ours` keeps torchvision's.
SCHEMES = {
    "words": Scheme(),
    "words without numbers": Scheme(layers=UNNUMBERED[0]),
    "words without numbers, norms apart": Scheme(layers=UNNUMBERED[1]),
    "norms within": Scheme(layers=UNNUMBERED[2]),
    "children of a Sequential": Scheme(stem="{top} {top}", place="{stage4}.{block}", ours=True),
    "a Sequential in each block": Scheme(layers="{path}.{n} {path}.{n}"),
    "numbers only": Scheme(numbers=True),
    "nested": Scheme(
        "{stem}.{n} {stem}.{n}",
        "{layer}.{stage0}.{unit}.{block}.{path}",
        "{net}.{i0}.{conv} {net}.{i0}.{norm}",
    ),
    "one list of blocks": Scheme(place="{layer}.{flat}"),
    "one list of blocks, torchvision's words": Scheme(place="blocks.{flat}", ours=True),
    "counted from two": Scheme(place="{layer}{stage2}_{block}"),
    "joined": Scheme(joint="_"),
    "joined to the leaf": Scheme(joint="_", leaf="_"),
    "joined to the leaf, torchvision's words": Scheme(joint="_", leaf="_", ours=True),
    "wrapped": Scheme(prefix="{a}.{b}.{c}."),
    "wrapped, torchvision's words": Scheme(prefix="{a}.{b}.", ours=True),
    "in DataParallel": Scheme(prefix="module.{a}."),
    "another word for the projection": Scheme(projection="{skip}.{d} {skip}.{d}", ours=True),
    "a projection without its Sequential": Scheme(projection="{skip} {skip_norm}"),
    "classifier in a Sequential": Scheme(head="{fc}.1"),
    "classifier in a Sequential, torchvision's words": Scheme(head="{fc}.1", ours=True),
    **{order: Scheme(order=order) for order in ORDERS[1:]},
    "convolutions first, torchvision's words": Scheme(order="convolutions first", ours=True),
}
WITHOUT_NUMBERS = [name for name, scheme in SCHEMES.items() if scheme.layers in UNNUMBERED]
# All that is refused, by scheme. Where a position is all of a name, what is the projection's in one
# block is the attention's in another, which has none: they do not look alike.
REFUSED = {
    "numbers only": {"se_resnet18"},
    "numbers only, without order": {"se_resnet18"},
}


def in_order(file: dict[str, Tensor], order: str, random: Random) -> dict[str, Tensor]:
    """Return the tensors as the file has them, by their names, or in any order."""
    keys = list(file)
    if order == "shuffled":
        random.shuffle(keys)
    return {key: file[key] for key in (sorted(keys) if order == "sorted" else keys)}


class Misread(Exception):
    """A file that is read, but not as it is."""


def refusal(name: str, scheme: Scheme, order: str, random: Random) -> str:
    """Return why a net of the zoo under other names is refused, empty where it is read.

    Raises Misread where a tensor is not the one of its name. That nets average before they project
    (option D) only a number shows, and a net of single layers is a chain like any plain net's:
    where names do not show it somebody has to say it.
    """
    spec = get_spec(name)
    expected = tagged(shapes_of(spec))
    keys = renamed(expected, spec, scheme, random)
    file = in_order({key: expected[ours] for key, ours in keys.items()}, order, random)
    hidden = spec.shortcut == "D" and not scheme.shows_pooling
    told = spec if hidden or spec.block == "single" else None
    try:
        found = open_checkpoint(file, spec=told).tensors
    except CheckpointError as error:
        return error.message
    exchanged = {
        key: ours
        for key, ours in keys.items()
        if ours in found
        and (
            found[ours].shape != expected[ours].shape
            or not found[ours].flatten()[:1].equal(expected[ours].flatten()[:1])
        )
    }
    if exchanged or not found.keys() <= expected.keys():
        some = dict(list(exchanged.items())[:3])
        raise Misread(f"{name}, {order}, {len(exchanged)} such as {some}, {scheme}")
    left_out = [key for key in expected if key not in found]
    return f"left out: {', '.join(left_out[:3])}" if left_out else ""


def refusals(scheme: str, *orders: str, kinds: Sequence[str] = EVERY_KIND) -> dict[str, str]:
    """Return which nets are refused in a scheme, and why, each in one of the orders.

    Raises Misread with all that are.
    """
    refused, misread = {}, []
    in_turn = cycle(Random(scheme).sample(orders, len(orders)))
    for name, order in zip(kinds, in_turn, strict=False):
        try:
            refused[name] = refusal(name, SCHEMES[scheme], order, Random(f"{scheme} {name}"))
        except Misread as error:
            misread.append(str(error))
    if misread:
        raise Misread("\n".join(misread))
    return {name: reason for name, reason in refused.items() if reason}


# Every third net, and others in the next scheme; all of them take a minute more.
PARTS = ["some", pytest.param("all", marks=pytest.mark.slow)]


def kinds_of(scheme: str, part: str) -> Sequence[str]:
    return EVERY_KIND if part == "all" else EVERY_KIND[[*SCHEMES].index(scheme) % 3 :: 3]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_habit(scheme, part):
    kinds = kinds_of(scheme, part)
    refused = refusals(scheme, "as saved", kinds=kinds)
    assert refused.keys() == REFUSED.get(scheme, set()) & {*kinds}, refused


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in WITHOUT_NUMBERS])
def test_numbers_stand_for_the_order(scheme, part):
    kinds = kinds_of(scheme, part)
    refused = refusals(scheme, "shuffled", "sorted", kinds=kinds)
    assert refused.keys() == REFUSED.get(f"{scheme}, without order", set()) & {*kinds}, refused


@pytest.mark.parametrize("scheme", WITHOUT_NUMBERS)
def test_without_order_and_numbers_nothing_is_guessed(scheme):
    """Two norms of one size, of which nothing says which is the first: no reading is better."""
    refused = refusals(scheme, "shuffled", "sorted")
    if scheme == "words without numbers, norms apart":
        specs = {name: ZOO[name] for name in EVERY_KIND}
        alike = {
            name
            for name, spec in specs.items()
            if spec.block == "basic" and spec.activation_order == "original"
        }
        assert alike <= refused.keys()


@pytest.mark.parametrize("name", each_model())
def test_every_net_of_the_zoo(name):
    """Under habits that chance has put together; none is refused."""
    random = Random(name)
    for order in ("as saved", random.choice(("shuffled", "sorted"))):
        scheme = mixed(random, numbered=order != "as saved")
        assert not refusal(name, scheme, order, random), scheme


SINGLE = ("resnet8_1layer", "resnet8_1layer_v2")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_single_layers_for_a_net_of_such(scheme):
    assert not refusals(scheme, "as saved", kinds=SINGLE)


@pytest.mark.parametrize("name", SINGLE)
def test_single_layers_by_their_own_names(name):
    model = trained(get_spec(name))
    found = open_checkpoint(model.state_dict())
    assert replace(found.spec, shortcut="A") == get_spec(name)
    assert "shortcut" in found.unknown
    assert same(create_model(name, weights=model.state_dict()), model)


@pytest.mark.parametrize("name", ["resnet8", "resnet14"])
def test_two_layers_in_a_block_are_no_single_layers(name):
    """Not even where a net of such is asked for, which has as many of the same shapes."""
    spec = get_spec(name)
    expected = tagged(shapes_of(spec))
    for scheme in ("words", "a Sequential in each block", "one list of blocks"):
        keys = renamed(expected, spec, SCHEMES[scheme], Random(0))
        file = {key: expected[ours] for key, ours in keys.items()}
        with pytest.raises(CheckpointError):
            create_model(f"{name}_1layer", weights=file)


def test_what_no_name_shows_is_unknown(tmp_path):
    """Whether a net averages before it projects, as resnet18d, or not, as the same net in B."""
    hidden = Scheme(projection="{skip} {skip_norm}", ours=True)
    spec = replace(ZOO["resnet18d"], widths=(16, 32, 64, 128), num_classes=3)
    model = trained(spec)
    state = model.state_dict()
    file = {key: state[ours] for key, ours in renamed(state, spec, hidden, Random(0)).items()}
    torch.save(file, tmp_path / "file.pth")
    assert "shortcut" in open_checkpoint(file).unknown
    with pytest.raises(CheckpointError, match="shortcut"):
        open_model(tmp_path / "file.pth")
    assert same(create_model(spec, weights=file), model)
    assert same(open_model(tmp_path / "file.pth", spec), model)
    without = create_model(replace(spec, shortcut="B"), weights=file)
    assert without.layer2[0].downsample[0].weight.equal(model.layer2[0].downsample[1].weight)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("resnet8", "resnet8_v2"),
        ("resnet8_v2", "resnet8"),
        ("resnet8_b", "resnet8_b_v2"),
        ("resnet8_b_v2", "resnet8_b"),
        ("plain8", "resnet8_v2"),
        ("resnet8_c", "resnet8_b"),
        ("resnet8_b", "resnet8"),
        ("resnet14", "resnet8"),
        ("resnet8_b", "keras_resnet8_v1"),
    ],
)
@pytest.mark.parametrize("order", ["as saved", "shuffled"])
def test_nets_of_another_kind_are_no_such_net(name, other, order):
    """Norms before and behind convolutions, say: their tensors are of the same shapes."""
    model, random = create_model(name), Random(name)
    names = renamed(model.state_dict(), model.spec, Scheme(), random)
    file = {key: model.state_dict()[ours] for key, ours in names.items()}
    with pytest.raises(CheckpointError):
        load_weights(create_model(other), in_order(file, order, random))


@pytest.mark.parametrize("name", [*EVERY_KIND, "resnet50_v1", "keras_applications_resnet101"])
def test_nonsense_proves_nothing_that_is_not_so(name):
    spec = ZOO[name]
    expected = tagged(shapes_of(spec))
    keys = renamed(expected, spec, Scheme(), Random(name))
    checkpoint = open_checkpoint({key: expected[ours] for key, ours in keys.items()})
    assert checkpoint.proven == {field: getattr(spec, field) for field in checkpoint.proven}
    assert name in checkpoint.guess.names


# Real files, real values: whole networks in small.
SMALL = {"depths": (1, 2), "widths": (8, 16), "stem_width": 8, "num_classes": 3}
BASIC = Spec("small", **SMALL, stem="3x3", image_size=32)
NETS = {
    "basic": BASIC,
    "7x7": Spec("small", **SMALL),
    "A": replace(BASIC, shortcut="A"),
    "C": replace(BASIC, shortcut="C"),
    "plain": replace(BASIC, shortcut="none"),
    "bottleneck": replace(BASIC, block="bottleneck", depths=(2, 2)),
    "D, deep": Spec("small", "bottleneck", **SMALL, stem="deep", shortcut="D"),
    "tiered": Spec("small", **SMALL | {"stem_width": 16}, stem="deep_tiered", shortcut="D"),
    "grouped": replace(
        BASIC, block="bottleneck", widths=(64, 128), stem_width=64, groups=8, width_per_group=8
    ),
    "se": replace(BASIC, attention="se"),
    "eca": replace(BASIC, attention="eca"),
    "v2": replace(BASIC, activation_order="preactivation"),
    "v2 bottleneck": replace(BASIC, block="bottleneck", activation_order="preactivation"),
    "v2 of Keras": replace(
        BASIC,
        block="bottleneck",
        activation_order="preactivation",
        widths=(8, 32),
        out_channels=(32, 64),
        stem_activation=True,
        projection_input="raw",
        conv_bias="all",
    ),
    "projections of 3x3": replace(BASIC, depths=(2, 2), projection_size="3x3"),
    "projections without norms": replace(BASIC, projection_norm=False),
    "biased": replace(BASIC, conv_bias="all"),
    "group norms": replace(BASIC, norm="group"),
    "wide stem": replace(BASIC, stem_width=24),
    "one stage": replace(BASIC, depths=(2,), widths=(8,)),
    "five stages": replace(BASIC, depths=(1,) * 5, widths=(8, 8, 16, 16, 32)),
}


def trained(model: str | Spec, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return scramble(create_model(model, **options)).eval()


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(ours[k].equal(theirs[k]) for k in ours)


@pytest.mark.parametrize("net", NETS)
def test_files_of_small_nets(tmp_path, net):
    """Whole, as a dict, in a training's checkpoint and as safetensors, which sorts its keys."""
    random, spec = Random(net), NETS[net]
    model = trained(spec)
    state = model.state_dict()
    file = {k: state[ours] for k, ours in renamed(state, spec, mixed(random), random).items()}
    torch.save({"epoch": 3, "state_dict": file, "optimizer": {}}, tmp_path / "file.ckpt")
    save_file(file, tmp_path / "file.safetensors")
    for weights in (file, tmp_path / "file.ckpt", tmp_path / "file.safetensors"):
        again = create_model(spec)
        report = load_weights(again, weights)
        assert (report.share, report.unexpected) == (1, ())
        assert same(again, model)


# What stands around a network, and beside it.


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return trained("resnet8_b")


def named(
    tensors: Mapping[str, Tensor], prefix: str = "", changes: Mapping[str, str] = {}
) -> dict[str, Tensor]:
    """Return tensors under other names: what they begin with changed, and then a prefix."""
    result = {}
    for key, tensor in tensors.items():
        old = next((old for old in changes if key.startswith(old)), "")
        result[prefix + changes.get(old, "") + key.removeprefix(old)] = tensor
    return result


def is_read(model: torch.nn.Module, tree: Mapping, name: str = "resnet8_b", **reading) -> bool:
    """Tell whether a file's network is this one, all of it, by each way in."""
    ways = [create_model(name), create_model(name, weights=tree, **reading)]
    report = load_weights(ways[0], tree, **reading)
    return report.share == 1 and all(same(way, model) for way in ways)


WRAPPERS = (
    *("classifier", "base", "resnet18", "features", "clf", "arch", "convnet", "extractor"),
    *("main_model", "_net", "model.resnet18", "base.model", "model.backbone.conv_encoder.model"),
    *("module.classifier", "layer1", "a.b.c.d.e", "0.1"),
)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_any_words_may_stand_before_a_network(net, tmp_path, wrapper):
    tree = {"state_dict": named(net.state_dict(), f"{wrapper}.")}
    model = create_model("resnet8_b")
    assert load_weights(model, tree).prefix == f"{wrapper}."
    assert same(model, net)
    assert same(create_model("resnet8_b", weights=tree, container=wrapper), net)
    torch.save(tree, tmp_path / "file.pth")
    assert same(open_model(tmp_path / "file.pth"), net)
    assert same_body(create_backbone("resnet8_b", weights=tmp_path / "file.pth"), net)


def same_body(backbone: torch.nn.Module, model: torch.nn.Module) -> bool:
    ours, theirs = backbone.state_dict(), model.state_dict()
    return len(ours) > 50 and all(ours[key].equal(theirs[key]) for key in ours)


@pytest.mark.parametrize("wrapper", ["classifier", "model.backbone.conv_encoder.model"])
@pytest.mark.parametrize("beside", ["decoder", "neck", "head.mlp", "zolu", "model.projector"])
def test_what_stands_beside_a_network_is_named(net, wrapper, beside):
    """A decoder of the same convolutions and norms, which make no network."""
    tensors = {
        "0.weight": torch.ones(32, 64, 3, 3),
        "1.weight": torch.ones(32),
        "1.bias": torch.ones(32),
        "1.running_mean": torch.ones(32),
        "1.running_var": torch.ones(32),
        "3.weight": torch.ones(32, 32, 3, 3),
        "3.bias": torch.ones(32),
        "4.weight": torch.ones(16, 32, 1, 1),
    }
    other = {f"{beside}.{key}": tensor for key, tensor in tensors.items()}
    for tree in (
        named(net.state_dict(), f"{wrapper}.") | other,
        other | named(net.state_dict(), f"{wrapper}."),
        named(net.state_dict()) | other,
    ):
        model = create_model("resnet8_b")
        report = load_weights(model, tree)
        assert same(model, net)
        assert beside.split(".")[0] in " ".join((*report.ignored, *report.unexpected))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("encoder1", "encoder2"),
        ("rgb_backbone", "depth_backbone"),
        ("zolu", "mafi"),
        ("model.zolu", "model.mafi"),
        ("a.b.zolu", "c.mafi"),
        ("zolu.0", "zolu.1"),
    ],
)
def test_networks_side_by_side_are_listed_and_each_can_be_chosen(net, tmp_path, first, second):
    torch.manual_seed(1)
    other = scramble(create_model("resnet8_b")).eval()
    ours, theirs = net.state_dict(), other.state_dict()
    tree = {"state_dict": named(ours, f"{first}.") | named(theirs, f"{second}.")}
    torch.save(tree, tmp_path / "file.pth")
    for refused in (
        lambda: load_weights(create_model("resnet8_b"), tree),
        lambda: create_model("resnet8_b", weights=tree),
        lambda: create_backbone("resnet8_b", weights=tree),
        lambda: open_model(tmp_path / "file.pth"),
    ):
        with pytest.raises(CheckpointError, match="several networks") as caught:
            refused()
        assert first in caught.value.message
        assert second in caught.value.message
        assert "container=" in caught.value.hint
    for chosen, model in ((first, net), (second, other)):
        assert is_read(model, tree, container=chosen)
        assert same(open_model(tmp_path / "file.pth", container=chosen), model)
        backbone = create_backbone("resnet8_b", weights=tree, container=chosen)
        assert same_body(backbone, model)
    with pytest.raises(CheckpointError, match="there is no nobody in it"):
        load_weights(create_model("resnet8_b"), tree, container="nobody")


def test_one_network_bare_and_one_within(net):
    torch.manual_seed(1)
    other = scramble(create_model("resnet8_b")).eval()
    tree = named(net.state_dict()) | named(other.state_dict(), "zolu.")
    with pytest.raises(CheckpointError, match="zolu"):
        load_weights(create_model("resnet8_b"), tree)
    assert is_read(other, tree, container="zolu")


NAMES = {
    "deep": lambda key: "a." * 3000 + key,
    "deep numbers": lambda key: "0." * 3000 + key,
    "a large number": lambda key: "9" * 5000 + "." + key,
    "a digit that is no number": lambda key: f"².{key}",
    "many separators": lambda key: "_" * 1000 + key,
    "blanks": lambda key: f" \n{key}",
}


@pytest.mark.parametrize("rename", NAMES)
def test_names_beyond_measure(net, rename):
    tree = {NAMES[rename](key): tensor for key, tensor in net.state_dict().items()}
    with suppress(CheckpointError):
        assert is_read(net, tree)


def test_a_ladder_of_parts_is_no_network():
    steps = {"x." * i + "conv.weight": torch.ones(4, 4, 3, 3) for i in range(300)}
    with pytest.raises(CheckpointError, match="no residual network"):
        load_weights(create_model("resnet8_b"), steps)


def test_networks_of_two_kinds_side_by_side(net):
    other = trained("resnet14_b", num_classes=3)
    tree = named(net.state_dict(), "zolu.") | named(other.state_dict(), "mafi.")
    with pytest.raises(CheckpointError, match=r"zolu.*mafi"):
        load_weights(create_model("resnet8_b"), tree)
    assert is_read(net, tree, container="zolu")
    model = create_model("resnet14_b", num_classes=3, weights=tree, container="mafi")
    assert same(model, other)


def test_habits_of_two_dialects_in_one_file(net):
    state = {key.replace("downsample", "shortcut"): t for key, t in net.state_dict().items()}
    assert is_read(net, state)
    padded = trained("resnet20", zero_pad="both")
    words = {"conv1.": "conv.", "bn1.": "bn.", "fc.": "linear."}
    state = named(padded.state_dict(), changes=words)
    again = create_model("resnet20", zero_pad="both", weights=state)
    assert same(again, padded)
    checkpoint = open_checkpoint(state)
    assert checkpoint.spec.activation_order == "original"
    assert "pre-activation" not in checkpoint.guess.words


@pytest.mark.parametrize(
    "spec",
    [NETS["A"], NETS["plain"], replace(BASIC, projection_norm=False, conv_bias="all")],
    ids=["A", "plain", "of Keras"],
)
def test_norms_in_a_list_of_their_own_are_not_left_out(spec):
    """They may stand before or behind the convolutions, which alone would make a network too."""
    model = trained(spec)
    state, numbers = model.state_dict(), {}
    for key in state:
        module = key.rpartition(".")[0]
        word = "fc" if module == "fc" else "n" if f"{module}.running_mean" in state else "c"
        known = [name for name in numbers.values() if name.startswith(word)]
        numbers.setdefault(module, f"{word}.{len(known)}")
    file = {
        f"{numbers[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": state[key] for key in state
    }
    with pytest.raises(CheckpointError, match="may stand before or behind the convolutions"):
        open_checkpoint(file)
    assert same(create_model(spec, weights=file), model)


@pytest.mark.parametrize(
    "head", ["classifier", "head", "linear", "cls_head", "fc.1", "zolu", "head.fc", "last_linear"]
)
@pytest.mark.parametrize("body", ["backbone.", "", "encoder."])
def test_a_classifier_under_any_name(net, body, head):
    """Also beside a wrapped backbone, and behind a dropout."""
    tree = {body + key: t for key, t in net.state_dict().items() if not key.startswith("fc.")}
    tree |= {f"{head}.{leaf}": net.state_dict()[f"fc.{leaf}"] for leaf in ("weight", "bias")}
    assert is_read(net, tree)


def test_children_of_a_sequential_make_a_backbone(tmp_path):
    """`nn.Sequential(*list(resnet18().children())[:-2])`, as it is saved everywhere."""
    children = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    spec = replace(ZOO["resnet18"], widths=(16, 32, 64, 128), stem_width=16, num_classes=5)
    model = trained(spec)
    numbers = {f"{child}.": f"{i}." for i, child in enumerate(children)}
    tree = named(model.state_dict(), changes=numbers)
    tree = {key: tensor for key, tensor in tree.items() if not key.startswith("fc.")}
    torch.save(tree, tmp_path / "file.pth")
    assert same_body(create_backbone(spec, weights=tmp_path / "file.pth"), model)
    with_head = {**tree, "9.weight": model.fc.weight, "9.bias": model.fc.bias}
    assert same(create_model(spec, weights=with_head), model)


DEEP = {"conv1.0.": "conv1.", "conv1.1.": "bn1.", "conv1.3.": "conv2."}
DEEP |= {"conv1.4.": "bn2.", "conv1.6.": "conv3.", "bn1.": "bn3."}


@pytest.mark.parametrize("name", ["resnet50s", "resnet50t", "resnet18d"])
def test_three_convolutions_of_a_stem_side_by_side(name):
    """As the segmentation repositories of MIT and others have them."""
    spec = replace(ZOO[name], widths=(16, 32, 64, 128), depths=(1, 2, 1, 1), num_classes=3)
    model = trained(spec)
    assert same(create_model(spec, weights=named(model.state_dict(), changes=DEEP)), model)
    expected = tagged(shapes_of(ZOO[name]))
    checkpoint = open_checkpoint(named(expected, changes=DEEP))
    assert all(checkpoint.tensors[key].equal(tensor) for key, tensor in expected.items())
    assert name in checkpoint.guess.names


def test_a_net_that_is_not_known_is_not_called_by_a_name(tmp_path):
    """A stem of two convolutions, of which the first looks like that of CIFAR's nets."""
    spec = replace(ZOO["resnet18"], stem="deep", widths=(64, 64, 128, 128), num_classes=3)
    state = named(trained(spec).state_dict(), changes=DEEP)
    state = {k: t for k, t in state.items() if not k.startswith(("conv2.", "bn2."))}
    torch.save(state, tmp_path / "file.pth")
    for refused in (
        lambda: open_model(tmp_path / "file.pth"),
        lambda: create_model(spec, weights=state),
    ):
        with pytest.raises(CheckpointError) as caught:
            refused()
        assert "create_model(" not in caught.value.hint
