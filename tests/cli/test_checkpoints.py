"""inspect, verify, convert and diff, as a user meets them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from resnets import create_model, save_weights

COMPATIBLE = Path(__file__).parents[1] / "compatibility/schema-1"


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(0)
    save_weights(create_model("resnet8", num_classes=3), tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


def test_inspect(resnets, file, tmp_path):
    code, out, _ = resnets("inspect", file)
    assert code == 0
    assert "made for    resnet8" in out
    shown = json.loads(resnets("inspect", file, "--json")[1])
    assert (shown["made_for"], shown["names"], shown["unknown"]) == ("resnet8", "native", [])
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>404</html>")
    code, out, err = resnets("inspect", tmp_path / "page.pth")
    assert (code, out) == (4, "")
    assert "HTML page" in err
    code, _, err = resnets("inspect", file, "--images", tmp_path / "nowhere")
    assert (code, "there is no such folder" in err) == (3, True)


def test_inspect_of_several(resnets, file, tmp_path):
    page, other = tmp_path / "page.pth", tmp_path / "other.safetensors"
    page.write_text("<!DOCTYPE html><html>404</html>")
    other.write_bytes(file.read_bytes())
    code, out, err = resnets("inspect", file, page, other, tmp_path / "nowhere.pth")
    assert code == 4
    first, second = out.split("\n\n")
    assert first.splitlines()[0] == str(file)
    assert second.splitlines()[0] == str(other)
    assert first.splitlines()[1:] == second.splitlines()[1:]
    assert "made for    resnet8" in first
    assert [line[:6] for line in err.splitlines()] == ["error:", " hint:"] * 2
    assert "HTML page" in err
    code, out, _ = resnets("inspect", file, page, other, "--json")
    assert code == 4
    whole, broken, _ = shown = json.loads(out)
    assert [about["file"] for about in shown] == [str(file), str(page), str(other)]
    assert whole == json.loads(resnets("inspect", file, "--json")[1])
    assert set(broken) == {"file", "error"}
    assert resnets("inspect", file, other)[0] == 0
    code, _, err = resnets("inspect", file, other, "--images", tmp_path / "nowhere")
    assert (code, err.count("there is no such folder")) == (3, 1)


def test_inspect_says_what_every_module_is_and_why(resnets, file, tmp_path):
    words = {"conv1": "entry.0", "bn1": "entry.1", "fc": "out.1"}
    theirs = {}
    for key, tensor in create_model("resnet8_b").state_dict().items():
        module, leaf = key.rsplit(".", 1)
        for ours, name in (("layer", "s"), ("downsample", "skip"), ("conv", "c"), ("bn", "n")):
            module = words.get(module, module.replace(ours, name))
        theirs[f"base.{module}.{leaf}"] = tensor
    torch.save(theirs, tmp_path / "friend.pth")
    assert "entry" not in resnets("inspect", tmp_path / "friend.pth")[1]
    code, out, _ = resnets("inspect", tmp_path / "friend.pth", "--keys")
    assert code == 0
    rows = [line.split(maxsplit=2) for line in out.split("\n\n")[1].splitlines()]
    assert ["base.s2.0.skip.0", "layer2.0.downsample.0", "32 x 16 x 1 x 1  by its shape"] in rows
    shown = json.loads(resnets("inspect", tmp_path / "friend.pth", "--keys", "--json")[1])
    alignment = shown["alignment"]
    assert [(a["theirs"], a["ours"]) for a in alignment] == [tuple(row[:2]) for row in rows[1:]]
    assert alignment[0] == {
        "theirs": "base.entry.0",
        "ours": "conv1",
        "shape": [16, 3, 3, 3],
        "why": "reads the image",
    }
    assert {f"{a['theirs']}.weight" for a in alignment} == {k for k in theirs if "weight" in k}
    shown = json.loads(resnets("inspect", file, "--keys", "--json")[1])  # one of our own
    assert all(a["theirs"] == a["ours"] for a in shown["alignment"])


def test_verify_names_the_damaged_tensor(resnets, file):
    code, out, _ = resnets("verify", file)
    assert (code, "each with its SHA-256" in out) == (0, True)
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    code, out, err = resnets("verify", file, "--json")
    assert code == 4
    assert json.loads(out)[0]["damaged"] == ["layer3.0.conv2.weight"]
    assert "1 of 1 not good" in err


@pytest.mark.parametrize(
    ("name", "flipped"),
    [
        (f"exported.{end}", f"exported.{of}")
        for end, of in (("onnx",) * 2, ("pt2",) * 2, ("xml", "bin"))
    ],
)
def test_verify_knows_an_export_by_its_certificate(resnets, tmp_path, name, flipped):
    for file in COMPATIBLE.glob("exported.*"):
        shutil.copy(file, tmp_path)
    code, out, _ = resnets("verify", tmp_path / name)
    assert (code, "as the certificate of its export says" in out) == (0, True)
    content = bytearray((tmp_path / flipped).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / flipped).write_bytes(content)
    code, out, _ = resnets("verify", tmp_path / name)
    assert (code, f"damaged: {flipped}" in out) == (4, True)
    (tmp_path / f"{name}.certificate.json").write_text('{"files": []}')
    code, out, _ = resnets("verify", tmp_path / name)
    assert (code, "certificate.json is damaged or of another file" in out) == (4, True)


def test_verify_finds_values_that_are_no_numbers(resnets, tmp_path):
    model = create_model("resnet8")
    model.layer2[0].conv1.weight.data[0, 0, 0, 0] = float("nan")
    torch.save(model.state_dict(), tmp_path / "nan.pth")
    code, out, _ = resnets("verify", tmp_path / "nan.pth")
    assert code == 4
    assert "values are not finite: layer2.0.conv1.weight" in out


def test_convert(resnets, file, tmp_path):
    out = tmp_path / "out.safetensors"
    code, _, err = resnets("convert", file, out, "--to", "akamaster")
    assert (code, "its zero_pad is end, not both" in err) == (4, True)
    assert not out.exists()
    code, said, _ = resnets("convert", file, out, "--to", "native")
    assert (code, "resnet8, 44 tensors" in said) == (0, True)
    torch.save(
        create_model("resnet8", weights=file, head="keep").state_dict(), tmp_path / "bare.pth"
    )
    before = out.read_bytes()
    code, _, err = resnets("convert", tmp_path / "bare.pth", out, "--model", "resnet8")
    assert (code, "is there already" in err, "--overwrite" in err) == (2, True, True)
    assert out.read_bytes() == before
    code, _, err = resnets("convert", tmp_path / "bare.pth", out, "--overwrite")
    assert (code, "option A's or none" in err) == (4, True)
    words = ["convert", tmp_path / "bare.pth", out, "--model", "resnet8", "--overwrite"]
    assert resnets(*words)[0] == 0
    assert resnets("diff", file, out)[1].startswith("44 tensors are the same bit for bit, 0 differ")


def test_convert_says_for_programs_what_it_did(resnets, file, tmp_path):
    state = create_model("resnet8", weights=file, head="keep").state_dict()
    projector = {f"projector.{i}.weight": torch.zeros(4, 4) for i in range(7)}
    torch.save({**state, **projector}, tmp_path / "bare.pth")
    out = tmp_path / "out.safetensors"
    words = ["convert", tmp_path / "bare.pth", out, "--model", "resnet8"]
    code, said, notes = resnets(*words, "--json")
    assert code == 0
    told = json.loads(said)
    assert told.pop("notes")
    assert told == {
        "out": str(out),
        "model": "resnet8",
        "dialect": "native",
        "tensors": 44,
        "classifier": True,
        "left_behind": list(projector),
    }
    code, said, err = resnets(*words, "--overwrite")
    assert (code, said) == (0, f"{out}: resnet8, 44 tensors, as native has them\n")
    assert err == notes


def test_convert_refuses_an_ending_that_promises_another_format(resnets, file, tmp_path):
    code, out, err = resnets("convert", tmp_path / "nothing.pth", tmp_path / "out.pth")
    assert (code, out) == (2, "")
    assert "out.pth: our own files are safetensors" in err
    assert list(tmp_path.iterdir()) == [file]


def test_diff(resnets, file, tmp_path):
    model = create_model("resnet8", num_classes=3, weights=file)
    model.layer1[0].bn1.weight.data.mul_(1.5)
    save_weights(model, tmp_path / "other.safetensors")
    code, out, _ = resnets("diff", file, tmp_path / "other.safetensors")
    assert code == 0
    assert "43 tensors are the same bit for bit, 1 differ" in out
    assert "layer1.0.bn1.weight" in out
    changed = json.loads(resnets("diff", file, tmp_path / "other.safetensors", "--json")[1])
    assert changed["changed"][0]["relative"] == pytest.approx(0.5)


def test_pictures_are_prepared_as_one_says_where_the_file_does_not(resnets, tmp_path):
    """torchvision's names say nothing about it."""
    save_weights(create_model("resnet18", num_classes=3), tmp_path / "w.pth", dialect="torchvision")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (300, 280), (200, 90, 10)).save(tmp_path / "photos" / "cat.jpg")
    cat = tmp_path / "photos" / "cat.jpg"
    page, table = tmp_path / "page.html", tmp_path / "vectors.npz"
    commands = [
        ("predict", tmp_path / "w.pth", cat),
        ("features", cat, "--model", tmp_path / "w.pth", "--out", page),
        ("embed", tmp_path / "photos", "--model", tmp_path / "w.pth", "--out", table),
    ]
    for command in commands:
        code, _, err = resnets(*command)
        assert (code, "--preprocess imagenet" in err) == (4, True)
        assert resnets(*command, "--preprocess", "caffe")[0] == 2
        assert resnets(*command, "--preprocess", "imagenet")[0] == 0
    code, _, err = resnets("evaluate", tmp_path / "w.pth", tmp_path / "photos")
    assert (code, "--preprocess imagenet" in err) == (4, True)


def test_inspect_lists_all_that_nothing_shows(resnets, tmp_path):
    """Of a stranger's file, and of our own that was made of it."""
    torch.save(create_model("resnet8_b").state_dict(), tmp_path / "w.pth")
    names = ("norm_eps", "padding", "activation", "stem_stride", "stem_pool", "stem_padding")
    assert resnets("convert", tmp_path / "w.pth", tmp_path / "own.safetensors")[0] == 0
    for file in ("w.pth", "own.safetensors"):
        code, out, _ = resnets("inspect", tmp_path / file)
        (line,) = (line for line in out.splitlines() if line.startswith("unknown"))
        assert (code, [name for name in names if name not in line]) == (0, [])
        assert set(names) <= set(
            json.loads(resnets("inspect", tmp_path / file, "--json")[1])["unknown"]
        )


def test_values_that_are_no_numbers_are_named_by_all(resnets, tmp_path):
    """Inspect and convert say it; verify does not advise to copy what is intact."""
    state = create_model("resnet8_b").state_dict()
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    words = "not finite (NaN or infinite) in layer1.0.conv1.weight"
    assert words in resnets("inspect", tmp_path / "w.pth")[1]
    code, _, err = resnets("convert", tmp_path / "w.pth", tmp_path / "own.safetensors")
    assert (code, words in err) == (0, True)
    for file in ("w.pth", "own.safetensors"):
        code, out, err = resnets("verify", tmp_path / file)
        assert (code, "not finite: layer1.0.conv1.weight" in out) == (4, True)
        assert "copied again" not in err
        assert "before the training diverged" in err
