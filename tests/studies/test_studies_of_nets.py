"""Studies of nets that are hard to draw: a page that is true, or one error that says why."""

import json
from dataclasses import replace

import pytest
import torch

from conftest import coloured
from resnets import create_model, get_spec, save_weights
from resnets.data import open_dataset
from resnets.data.preprocess import measure
from resnets.errors import DataError, NonFiniteError, ResnetsError
from resnets.studies import (
    gradient_paths,
    gradients,
    landscape,
    layer_responses,
    lesion,
    subjects,
)
from resnets.studies.study import write

NARROW = {"widths": (4, 8, 8), "stem_width": 4, "in_channels": 1, "num_classes": 10}
ONE = replace(get_spec("resnet8"), **NARROW | {"depths": (1,), "widths": (4,)}, name="one block")
SPECS = {
    "one": ONE,
    "stuck": replace(get_spec("resnet11"), **NARROW, shortcut="none"),  # nothing can be left out
    "deep stem": replace(get_spec("resnet8"), **NARROW, stem="deep", stem_pool="none"),
    "all": replace(get_spec("resnet8"), **NARROW, drop_path=0.5, dropout=0.2, conv_bias="all"),
}
PLAIN = replace(get_spec("plain8"), **NARROW)
STUDIES = {
    "lesion": (lesion, {"images": 20, "draws": 1}),
    "responses": (layer_responses, {"images": 20}),
    "gradients": (gradients, {"images": 4, "draws": 2, "points": 9}),
    "paths": (gradient_paths, {"images": 16, "draws": 1}),
    "landscape": (landscape, {"images": 20, "steps": 5}),
    "line": (landscape, {"images": 20, "steps": 5, "line": True}),
}


@pytest.fixture(scope="module")
def digits():
    return open_dataset("digits")


@pytest.fixture
def weights(digits, tmp_path):
    def make(spec, change=lambda model: None):
        torch.manual_seed(0)
        model = create_model(spec)
        model.classes, model.preprocess = digits.classes, measure(digits.train, 1, "channel")
        change(model)
        path = tmp_path / f"{spec.name} {spec.shortcut}.safetensors"
        save_weights(model, path)
        return path

    return make


def studied(name, runs, folder, **options):
    module, given = STUDIES[name]
    given = given | ({"out": folder} if module is landscape else {}) | {"data": "digits"}
    found = module.study(runs, **given | options)
    write(found, folder)
    return found


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_of_net_has_a_page_or_one_error(name, kind, weights, tmp_path):
    if name == "paths" and SPECS[kind].shortcut == "none":
        with pytest.raises(ResnetsError, match="has no shortcuts"):
            studied(name, [weights(SPECS[kind])], tmp_path)
        return
    assert studied(name, [weights(SPECS[kind])], tmp_path).found


def overflowing(model):
    """Make logits of any image too large for float32."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.bias)
    torch.nn.init.constant_(model.fc.weight, 3e38)


@pytest.mark.parametrize("name", STUDIES)
def test_a_net_whose_answers_are_no_numbers_is_refused(name, weights, tmp_path):
    path = weights(ONE, overflowing)
    with pytest.raises(NonFiniteError, match="its loss on digits is NaN or infinite"):
        studied(name, [path], tmp_path)
    assert not [*tmp_path.glob("*.html")]


def test_a_landscape_that_leaves_the_numbers_is_drawn(weights, tmp_path):
    path = weights(PLAIN, lambda model: torch.nn.init.normal_(model.fc.weight, std=1e36))
    found = studied("line", [path], tmp_path, span=100)
    (net,) = found.numbers["nets"]
    assert net["highest"] is None
    assert any(loss is None for row in net["losses"] for loss in row)
    assert json.loads((tmp_path / "landscape.json").read_text())["numbers"]["nets"][0]["centre"] > 0


def test_a_page_says_all_images_that_nets_were_shown(weights):
    one, other = (subjects.open_subjects([weights(spec)])[0] for spec in (ONE, PLAIN))
    seen = [
        subjects.images_for(one, 5, data="digits"),
        subjects.images_for(other, 9, data="digits"),
    ]
    told = subjects.shown_facts([*seen, replace(seen[0], data="others", fingerprint="f" * 64)])
    assert told["images"].count("digits, ") == 2
    assert "; others, " in told["images"]
    assert told["fingerprint"].count(", ") == 1


def test_fresh_nets_have_an_output_for_every_class():
    seen = subjects.fresh_images("digits", 2, seed=0)
    assert (len(seen.labels.unique()) < seen.classes, seen.classes) == (True, 10)


def test_fresh_nets_are_shown_one_class_an_image(tmp_path):
    rows = ["filename,a,b"]
    for number in range(12):
        coloured(number % 3, number).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number % 2},{number % 3 % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match="may have several classes"):
        subjects.fresh_images(tmp_path / "labels.csv", 2)
