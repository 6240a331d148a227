"""load_weights and save_weights: policies, variants, reports, all or nothing."""

import json
import re
from dataclasses import replace
from itertools import product

import pytest
import torch

from resnets import Spec, create_backbone, create_model, load_weights, open_model, save_weights
from resnets.data.preprocess import imagenet
from resnets.errors import CheckpointError, UsageError
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.load import LoadError
from resnets.zoo import get_spec

NARROW = {"widths": (8, 16, 32, 64), "stem_width": 8}  # of a net for ImageNet, to be quick


def trained(name: str, **options):
    """A small model whose norms are not trivial."""
    torch.manual_seed(0)
    model = create_model(name, **options)
    for key, tensor in model.state_dict().items():
        if key.endswith("running_mean"):
            tensor.normal_(0, 0.2)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture
def file(tmp_path):
    model = trained("resnet8", num_classes=3)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    return model, tmp_path / "weights.pth"


def same(a, b) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(ours[k].equal(theirs[k]) for k in ours)


def test_a_file_and_a_state_dict(file):
    source, path = file
    for given in (path, str(path), source.state_dict(), {"state_dict": source.state_dict()}):
        model = create_model("resnet8", num_classes=3)
        report = load_weights(model, given)
        assert same(model, source)
        assert report.share == 1
        assert len(report.loaded) == len(source.state_dict())
    assert json.loads(json.dumps(report.to_dict()))["container"] == "state_dict"


def test_nothing_is_changed_by_an_error(file):
    _, path = file
    for name, options in (("resnet8", {}), ("resnet14", {"num_classes": 3})):
        model = create_model(name, **options)
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        spec, preprocess = model.spec, model.preprocess
        with pytest.raises(LoadError) as caught:
            load_weights(model, path)
        assert all(tensor.equal(before[key]) for key, tensor in model.state_dict().items())
        assert (model.spec, model.preprocess) == (spec, preprocess)
        assert str(caught.value.report) in caught.value.message
    assert caught.value.report.missing[0] == "layer1.1.conv1.weight"


def test_a_deeper_file_is_not_taken_for_a_shallower_one():
    """All of resnet8's keys are in resnet14, with the same shapes."""
    model = create_model("resnet8")
    with pytest.raises(LoadError, match="unexpected") as caught:
        load_weights(model, trained("resnet14").state_dict())
    assert 'create_model("resnet14") is such' in caught.value.hint
    assert "layer1.1.conv1.weight" in caught.value.report.unexpected


def test_head_policies(file):
    source, path = file
    model = create_model("resnet8")
    head = model.fc.weight.clone()
    report = load_weights(model, path, head="drop")
    assert model.fc.weight.equal(head)
    assert set(report.skipped) == {"fc.weight", "fc.bias"}
    assert model.layer3[0].conv1.weight.equal(source.layer3[0].conv1.weight)
    report = load_weights(model, path, head="keep")
    assert (model.spec.num_classes, model.fc.out_features) == (3, 3)
    assert same(model, source)
    without = {k: v for k, v in source.state_dict().items() if not k.startswith("fc")}
    with pytest.raises(LoadError, match="2 missing"):
        load_weights(create_model("resnet8", num_classes=3), without)
    assert load_weights(create_model("resnet8"), without, head="drop").share < 1


def test_a_model_without_a_classifier(file):
    source, path = file
    model = create_model("resnet8")
    model.reset_classifier(0)
    with pytest.raises(LoadError, match="2 unexpected"):
        load_weights(model, path)
    report = load_weights(model, path, head="drop")
    assert report.skipped["fc.weight"] == "the network has no classifier"
    load_weights(model, path, head="keep")
    assert same(model, source)
    assert model.spec == source.spec


@pytest.mark.parametrize("policy", [None, "sum", "mean", "repeat", "slice", "random"])
@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_input_channels(file, policy, channels):
    source, path = file
    model = create_model("resnet8", num_classes=3, in_channels=channels)
    fresh = model.conv1.weight.detach().clone()
    if policy == "slice" and channels > 3:
        with pytest.raises(UsageError, match=f"cannot make {channels} channels of 3"):
            load_weights(model, path, in_channels=policy)
        return
    report = load_weights(model, path, in_channels=policy)
    policy = policy or ("sum" if channels == 1 else "repeat")
    said = report.skipped if policy == "random" else report.adapted
    assert ("keeps its own" if policy == "random" else policy) in said["conv1.weight"]
    weight, old = model.conv1.weight, source.conv1.weight
    expected = {
        "sum": lambda c: old.sum(1) / channels,
        "mean": lambda c: old.mean(1),
        "repeat": lambda c: old[:, c % 3] * 3 / channels,
        "slice": lambda c: old[:, c],
        "random": lambda c: fresh[:, c],
    }[policy]
    for channel in range(channels):
        torch.testing.assert_close(weight[:, channel], expected(channel))


def test_grey_pictures_mean_what_they_meant_in_colour(file):
    source, path = file
    grey = create_model("resnet8", num_classes=3, in_channels=1).eval()
    load_weights(grey, path)
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(x), source(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def in_dtype(state, dtype):
    return {key: t.to(dtype) if t.is_floating_point() else t for key, t in state.items()}


@pytest.mark.parametrize(("stored", "wanted"), list(product(FLOATS, FLOATS)), ids=str)
@pytest.mark.parametrize("head", ["error", "keep"])
def test_values_are_exact_where_the_model_can_hold_them(stored, wanted, head):
    """In every direction; what was rounded is said, and nothing else."""
    state = in_dtype(trained("resnet8", num_classes=3).double().state_dict(), stored)
    state["bn1.weight"] = (torch.ones(16, dtype=torch.float64) + 2**-40).to(stored)
    model = create_model("resnet8", num_classes=3 if head == "error" else 5).to(wanted)
    report = load_weights(model, state, head=head)
    loaded = model.state_dict()
    assert all(loaded[key].equal(t.to(loaded[key].dtype)) for key, t in state.items())
    assert {t.dtype for t in loaded.values()} == {wanted, torch.int64}
    exact = all(loaded[key].to(t.dtype).equal(t) for key, t in state.items())
    name = str(wanted).removeprefix("torch.")
    assert any(f"to {name}: " in note for note in report.notes) is not exact
    assert exact or torch.promote_types(stored, wanted) != wanted


def test_rounding_is_not_reported_where_nothing_was_lost(file):
    source, _ = file
    wide = in_dtype(source.state_dict(), torch.float64)
    report = load_weights(create_model("resnet8", num_classes=3), wide)
    assert not any("rounded" in note for note in report.notes)


def test_what_a_precision_cannot_hold_is_named(file):
    source, _ = file
    state = source.state_dict()
    state["bn1.running_var"] = state["bn1.running_var"] * 1e6
    report = load_weights(create_model("resnet8", num_classes=3).half(), state)
    assert any("infinite now: bn1.running_var" in note for note in report.notes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_named(file, value):
    source, _ = file
    state = source.state_dict()
    state["layer3.0.conv1.weight"] = state["layer3.0.conv1.weight"] * value
    report = load_weights(create_model("resnet8", num_classes=3), state)
    assert "not finite (NaN or infinite) in layer3.0.conv1.weight" in report.notes[0]


def test_variances_below_zero_are_named(file):
    """They are finite, and all answers are NaN."""
    source, _ = file
    state = source.state_dict()
    state["layer3.0.bn1.running_var"] = -state["layer3.0.bn1.running_var"]
    report = load_weights(create_model("resnet8", num_classes=3), state)
    assert report.notes[0] == "variances are below 0 in layer3.0.bn1.running_var"


def test_v1_and_v1_5(tmp_path):
    """The same keys and shapes: a mismatch is an error where the file's kin is known."""
    model = create_model("resnet50", num_classes=2)
    save_weights(model, tmp_path / "tv.pth", dialect="torchvision")
    save_weights(model, tmp_path / "d2.pth", dialect="detectron2")
    save_weights(model, tmp_path / "own.safetensors")
    for name in ("tv.pth", "own.safetensors"):
        with pytest.raises(LoadError, match="bottleneck_stride 3x3 for 1x1") as caught:
            create_model("resnet50_v1", num_classes=2, weights=tmp_path / name)
        assert 'create_model("resnet50", num_classes=2)' in caught.value.hint
    v1 = create_model("resnet50_v1", num_classes=2)
    load_weights(v1, tmp_path / "tv.pth", check_variant=False)
    assert same(v1, model)
    report = load_weights(v1, tmp_path / "d2.pth")
    assert any("v1.5" in note and "inspect" in note for note in report.notes)
    with pytest.raises(CheckpointError, match="stride is on the 1x1"):
        open_model(tmp_path / "d2.pth")


def test_option_a_pads_where_its_kin_does(tmp_path):
    """A name leaves the side open: the file decides; a spec and an option are refused."""
    model = trained("resnet8", zero_pad="both")
    path = tmp_path / "akamaster.th"
    save_weights(model, path, dialect="akamaster")
    x = torch.randn(2, 3, 32, 32)
    for again in (
        create_model("resnet8", weights=path),
        create_model("resnet8", zero_pad="both", weights=path),
        open_model(path),
        open_model(path, "resnet8"),
    ):
        assert again.spec.zero_pad == "both"
        assert again.eval()(x).equal(model(x))
    assert create_backbone("resnet8", weights=path).spec.zero_pad == "both"
    for call in (
        lambda: create_model("resnet8", zero_pad="end", weights=path),
        lambda: create_model(get_spec("resnet8"), weights=path),
        lambda: create_backbone(get_spec("resnet8"), weights=path),
        lambda: open_model(path, get_spec("resnet8")),
        lambda: load_weights(create_model("resnet8"), path),
    ):
        with pytest.raises(LoadError, match="zero_pad both for end") as caught:
            call()
        assert 'create_model("resnet8", zero_pad="both")' in caught.value.hint


@pytest.mark.parametrize(
    ("made", "options", "dialect", "wanted"),
    [
        ("resnet8", {"zero_pad": "both"}, "akamaster", "resnet8"),
        ("resnet8", {"zero_pad": "both", "norm_eps": 1e-3}, "native", "resnet8"),
        ("resnet14", {"num_classes": 3}, "native", "resnet8"),
        ("resnet14_b", {"in_channels": 1}, "torchvision", "resnet8_b"),
        ("resnet8_b", {"padding": "same", "norm_eps": 1e-3}, "native", "resnet8_b"),
        ("resnet26_b_v2", {"projection_input": "raw"}, "native", "resnet26_b_v2"),
    ],
)  # fmt: skip
def test_a_hint_names_a_call_that_works(tmp_path, made, options, dialect, wanted):
    path = tmp_path / "weights"
    path = path if dialect == "native" else path.with_suffix(".pth")
    save_weights(create_model(made, **options), path, dialect=dialect)
    with pytest.raises(LoadError) as caught:
        load_weights(create_model(wanted), path)
    call = re.search(r"create_model\(.*?\)", caught.value.hint)[0]
    assert load_weights(eval(call), path).share == 1
    assert eval(call.replace(")", ", weights=path)")).spec.name == made


def test_biases_are_folded_exactly():
    biased = trained("resnet8", conv_bias="all", shortcut="B")
    for key, tensor in biased.state_dict().items():
        if key.endswith("bias") and "conv" in key:
            tensor.normal_()
    plain = create_model("resnet8_b").eval()
    report = load_weights(plain, biased.state_dict())
    assert any("folded" in how for how in report.adapted.values())
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(plain(x), biased(x), rtol=1e-4, atol=1e-4)
    again = create_model("resnet8_b", conv_bias="all").eval()
    report = load_weights(again, plain.state_dict())
    assert "no bias; zero" in report.adapted["conv1.bias"]
    assert again(x).equal(plain(x))


def test_epsilon_and_momentum_are_carried(tmp_path):
    model = trained("resnet8", norm_eps=1e-3, norm_momentum=0.01)
    save_weights(model, tmp_path / "own.safetensors")
    again = create_model("resnet8", weights=tmp_path / "own.safetensors").eval()
    assert (again.bn1.eps, again.bn1.momentum) == (1e-3, 0.01)
    assert again.spec == model.spec
    x = torch.randn(2, 3, 32, 32)
    assert again(x).equal(model(x))


def test_preprocessing_and_classes_travel(tmp_path):
    model = trained("resnet8", num_classes=3)
    model.classes = ("a", "b", "c")
    model.preprocess = replace(model.preprocess, mean=(0.1, 0.2, 0.6), std=(0.2, 0.2, 0.5))
    save_weights(model, tmp_path / "own.safetensors")
    again = open_model(tmp_path / "own.safetensors")
    assert (again.classes, again.preprocess) == (model.classes, model.preprocess)
    grey = create_model("resnet8", in_channels=1, head="drop", weights=tmp_path / "own.safetensors")
    assert grey.classes == ()
    assert grey.preprocess.mean == pytest.approx((0.3,))
    four = create_model("resnet8", in_channels=4, head="keep", weights=tmp_path / "own.safetensors")
    assert four.preprocess.std == (0.2, 0.2, 0.5, 0.2)
    assert four.preprocess(torch.zeros(1, 4, 32, 32, dtype=torch.uint8)).shape == (1, 4, 32, 32)


@pytest.mark.parametrize(
    ("dialect", "suffix"),
    [
        ("native", ""),
        ("native", ".safetensors"),
        *product(("torchvision", "detectron2", "mmlab", "huggingface"), (".pth", ".safetensors")),
    ],
)
def test_files_in_every_dialect_come_back(tmp_path, dialect, suffix):
    model = create_model("resnet18", num_classes=5, **NARROW)
    save_weights(model, tmp_path / f"weights{suffix}", dialect=dialect)
    again = create_model("resnet18", num_classes=5, weights=tmp_path / f"weights{suffix}", **NARROW)
    assert same(again, model)


@pytest.mark.parametrize("name", ["out.pth", "out.bin", "model-v1.5"])
def test_our_own_files_do_not_look_like_others(tmp_path, name):
    with pytest.raises(UsageError, match="our own files are safetensors") as caught:
        save_weights(create_model("resnet8"), tmp_path / name)
    assert "dialect" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_net_that_a_dialect_cannot_hold_is_refused_with_the_reason(tmp_path):
    with pytest.raises(CheckpointError, match="detectron2 cannot hold resnet50_v2"):
        save_weights(create_model("resnet50_v2"), tmp_path / "x.pth", dialect="detectron2")
    with pytest.raises(UsageError, match='no dialect is called "tensorflow"'):
        save_weights(create_model("resnet8"), tmp_path / "x.pth", dialect="tensorflow")
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_open_where_they_say_enough(tmp_path):
    model = create_model("resnet18", num_classes=5)
    save_weights(model, tmp_path / "tv.pth", dialect="torchvision")
    again = open_model(tmp_path / "tv.pth")
    assert same(again, model)
    assert again.spec == replace(get_spec("resnet18"), num_classes=5)
    assert not again.training


def test_a_file_without_a_classifier_is_not_given_one_by_chance(tmp_path):
    model = create_model("resnet18")
    save_weights(model, tmp_path / "headless.safetensors", head=False)
    save_weights(model, tmp_path / "headless.pth", dialect="torchvision", head=False)
    for name in ("headless.safetensors", "headless.pth"):
        with pytest.raises(CheckpointError, match="has no classifier") as caught:
            open_model(tmp_path / name)
        assert 'create_model("resnet18", num_classes=..., weights=..., head="drop")' in str(
            caught.value
        )
        again = create_model("resnet18", num_classes=7, weights=tmp_path / name, head="drop")
        assert again.layer4[1].conv2.weight.equal(model.layer4[1].conv2.weight)


UNNAMED = {"depths": (1, 2), "widths": (8, 16), "stem": "3x3", "stem_width": 8, "image_size": 32}


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize(
    "spec", [Spec("custom", **UNNAMED), get_spec("resnet18")], ids=lambda spec: spec.name
)
def test_without_a_classifier_the_hint_is_a_call_that_works(tmp_path, spec, stages):
    """Also where the net has no name, or the file only its first stages."""
    state = create_model(spec).state_dict()
    parts = ("conv1", "bn1", *(f"layer{stage + 1}" for stage in range(len(spec.depths))))
    kept = parts[: 2 + (len(spec.depths) if stages > 1 else 1)]
    path = tmp_path / "part.pth"
    torch.save({k: v for k, v in state.items() if k.startswith(kept)}, path)
    with pytest.raises(CheckpointError, match="has no classifier") as caught:
        open_model(path)
    made = re.search(r"create_\w+\(.*\)(?= gives| takes)", caught.value.hint)[0]
    again = eval(made.replace("weights=...", "weights=path").replace("es=...", "es=3"))
    assert all(tensor.equal(again.state_dict()[k]) for k, tensor in torch.load(path).items())


def test_what_stands_within_a_network_is_named_before_a_classifier_is_asked_for(tmp_path):
    state = create_model("resnet8_b").state_dict()
    state = {k: v for k, v in state.items() if "fc." not in k}
    torch.save(state | {"layer3.0.alpha": torch.ones(64)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="has no classifier") as caught:
        open_model(tmp_path / "x.pth")
    assert "layer3.0.alpha" in caught.value.hint
    assert "create_model" not in caught.value.hint


def test_a_net_without_a_name_is_given_as_a_spec(tmp_path):
    spec = Spec("custom", **UNNAMED | {"block": "bottleneck"}, num_classes=5)
    model = create_model(spec).eval()
    torch.save(
        {f"a.{k}".replace("bn", "b"): v for k, v in model.state_dict().items()}, tmp_path / "x.pth"
    )
    with pytest.raises(CheckpointError, match=r"v1\) or the 3x3") as caught:
        open_model(tmp_path / "x.pth")
    told = re.search(r"Spec\(.*\)", caught.value.hint)[0]
    assert open_model(tmp_path / "x.pth", eval(told)).spec == spec
    with pytest.raises(LoadError) as caught:
        load_weights(create_model("resnet8"), tmp_path / "x.pth")
    made = re.search(r"create_model\(Spec\(.*\)\)(?= is such)", caught.value.hint)[0]
    assert load_weights(eval(made), tmp_path / "x.pth").share == 1


def test_a_detectors_backbone_may_be_v1(tmp_path):
    """mmdetection's nets have torchvision's names, and the stride where their style says."""
    model = create_model("resnet50", **NARROW)
    state = {f"backbone.{key}": tensor for key, tensor in model.state_dict().items()}
    state = {key: tensor for key, tensor in state.items() if ".fc." not in key}
    state |= {"neck.fpn.weight": torch.zeros(8, 8, 1, 1), "rpn_head.conv.weight": torch.zeros(8, 8)}
    torch.save({"state_dict": state, "meta": {"epoch": 12}}, tmp_path / "detector.pth")
    for name in ("resnet50", "resnet50_v1"):
        backbone = create_model(name, **NARROW)
        report = load_weights(backbone, tmp_path / "detector.pth", head="drop")
        assert any("nothing says whether these are v1" in note for note in report.notes)


def test_names_are_said_to_be_the_reason():
    model = create_model("resnet50", **NARROW)
    report = load_weights(model, model.state_dict())
    assert any("nothing says whether these are v1" in note for note in report.notes)


@pytest.mark.parametrize("key", ["maxpool.0.weight", "layer1.0.extra.weight", "layer9.0.weight"])
def test_layers_of_the_backbone_that_are_not_known_are_an_error(file, key):
    source, _ = file
    state = {**source.state_dict(), key: torch.zeros(4, 4, 3, 3)}
    with pytest.raises(CheckpointError, match=f"(such as|describes:) {key[:-7]}"):
        load_weights(create_model("resnet8", num_classes=3), state)
    projection = {**source.state_dict(), "projector.0.weight": torch.zeros(4, 4)}
    report = load_weights(create_model("resnet8", num_classes=3), projection)
    assert report.unexpected == ("projector.0.weight",)


def test_another_classifiers_names_do_not_stay(file):
    source, path = file
    model = create_model("resnet8", num_classes=3)
    model.classes = ("a", "b", "c")
    load_weights(model, path, head="drop")
    assert model.classes == ("a", "b", "c")
    load_weights(model, path)
    assert model.classes == ()
    assert source.classes == ()


def test_unknown_preparation_stays_unknown(file, tmp_path):
    _, path = file
    model = create_model("resnet8", num_classes=3, weights=path)
    assert model.preprocess is None
    save_weights(model, tmp_path / "own.safetensors")
    assert open_model(tmp_path / "own.safetensors").preprocess is None


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_without_plain_values_change_nothing(kind):
    source, model = create_model("resnet8"), create_model("resnet8")
    state = source.state_dict()
    tensor = state["layer3.0.conv1.weight"]
    state["layer3.0.conv1.weight"] = tensor.to_sparse() if kind == "sparse" else tensor.to("meta")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        load_weights(model, state)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_targets_and_sources_that_cannot_be_meant(file):
    source, path = file
    wrapped = torch.nn.DataParallel(create_model("resnet8", num_classes=3))
    load_weights(wrapped, path)
    assert same(wrapped.module, source)
    with pytest.raises(UsageError, match="Linear is no network of resnets"):
        load_weights(torch.nn.Linear(1, 1), path)
    with torch.device("meta"):
        empty = create_model("resnet8", num_classes=3)
    with pytest.raises(UsageError, match="on the meta device"):
        load_weights(empty, path)
    for nothing in (None, "", 7, ["weights.pth"]):
        with pytest.raises(UsageError, match="no checkpoint"):
            load_weights(source, nothing)


def test_hugging_face_folders_bring_their_class_names(tmp_path):
    model = create_model("resnet18", num_classes=3, **NARROW)
    model.classes = ("ant", "bee", "cat")
    save_weights(model, tmp_path / "model-v1.5", dialect="huggingface")
    again = open_model(tmp_path / "model-v1.5")
    assert same(again, model)
    assert again.classes == model.classes
    v1 = create_model("resnet50_v1", num_classes=3, **NARROW)
    save_weights(v1, tmp_path / "v1", dialect="huggingface")
    assert open_model(tmp_path / "v1").spec == v1.spec
    with pytest.raises(CheckpointError, match="bottleneck_stride is 1x1"):
        save_weights(v1, tmp_path / "v1.bin", dialect="huggingface")


def test_detectron2s_own_pickle(tmp_path):
    model = create_model("resnet50", num_classes=3, **NARROW)
    save_weights(model, tmp_path / "R-50.pkl", dialect="detectron2")
    again = create_model("resnet50", num_classes=3, weights=tmp_path / "R-50.pkl", **NARROW)
    assert same(again, model)


def test_tied_parameters_go_into_foreign_safetensors(tmp_path):
    model = create_model("resnet18")
    model.layer1[1].conv1.weight = model.layer1[0].conv1.weight
    save_weights(model, tmp_path / "tied.safetensors", dialect="torchvision")
    assert same(create_model("resnet18", weights=tmp_path / "tied.safetensors"), model)


def test_what_a_fresh_network_assumes_is_not_written_down(tmp_path):
    model = create_model("resnet8")
    save_weights(model, tmp_path / "own.safetensors")
    assert open_model(tmp_path / "own.safetensors").preprocess is None
    model.preprocess = replace(model.preprocess, std=(0.5, 0.5, 0.5))  # somebody's word
    save_weights(model, tmp_path / "own.safetensors")
    assert open_model(tmp_path / "own.safetensors").preprocess == model.preprocess


UNSHOWN = {"norm_eps", "padding", "activation", "shortcut_scale", "residual_scale", "stem_stride"}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("resnet8", {"shortcut", "zero_pad", "stride_position", "stem_pool", "stem_padding"}),
        ("resnet8_b", {"stride_position", "stem_pool", "stem_padding"}),
        ("resnet18", {"stride_position", "stem_pool", "output_stride"}),
        ("resnet50", {"stride_position", "stem_pool", "output_stride", "bottleneck_stride"}),
        (
            "resnet26_v2",
            {
                *("stride_position", "stem_pool", "stem_padding", "bottleneck_stride"),
                *("first_shortcut_input", "projection_input", "shortcut", "zero_pad"),
            },
        ),
    ],
)
def test_what_nothing_shows_is_said_and_stays_unknown(tmp_path, name, more):
    """Also where the default was taken, and through our own files."""
    narrow = NARROW if len(get_spec(name).widths) == 4 else {}
    state = create_model(name, **narrow).state_dict()
    model = create_model(name, **narrow)
    report = load_weights(model, state)
    assert UNSHOWN <= set(model.assumed) <= UNSHOWN | more
    said = " ".join(report.notes)
    assert all(field in said or field == "bottleneck_stride" for field in model.assumed)
    for weights in (state, tmp_path / "own.safetensors"):
        again = create_model(name, weights=weights, **narrow)
        assert again.assumed == model.assumed
        assert load_weights(create_model(name, **narrow), weights).notes == report.notes
        save_weights(again, tmp_path / "own.safetensors")
        assert open_checkpoint(tmp_path / "own.safetensors").unknown == model.assumed
    assert open_model(tmp_path / "own.safetensors").assumed == model.assumed


def test_what_is_known_is_not_called_unknown(tmp_path):
    for name, narrow in (("resnet8", {}), ("resnet50", NARROW)):
        model = create_model(name, **narrow)
        assert model.assumed == ()
        save_weights(model, tmp_path / "own.safetensors")
        assert open_checkpoint(tmp_path / "own.safetensors").unknown == ()
        assert open_model(tmp_path / "own.safetensors").assumed == ()


@pytest.mark.parametrize("make", [create_model, create_backbone])
def test_other_weights_preprocessing_does_not_stay(file, make):
    """Neither a fresh network's nor that of the weights before."""
    _, path = file
    for model in (make("resnet8", num_classes=3), make("resnet20", weights="cifar10")):
        assert model.preprocess is not None
    model = make("resnet8", num_classes=3)
    model.preprocess = imagenet(3, 32)
    options = {"head": "drop"} if make is create_backbone else {}
    load_weights(model, path, **options)
    assert model.preprocess is None


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "b"), tuple("abcd")])
def test_class_names_that_are_not_the_outputs_are_not_written(tmp_path, classes):
    model = create_model("resnet8", num_classes=3)
    model.classes = classes
    with pytest.raises(UsageError, match="different class names for 3 outputs"):
        save_weights(model, tmp_path / "own.safetensors")
    model.classes, model.fc = (), torch.nn.Linear(64, 5)
    with pytest.raises(UsageError, match="has 5 outputs, its spec says 3"):
        save_weights(model, tmp_path / "own.safetensors")
    assert list(tmp_path.iterdir()) == []
