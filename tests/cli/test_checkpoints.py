"""inspect, verify, convert and diff, as a user meets them."""

import json

import pytest
import torch

from resnets import create_model, save_weights


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
    code, _, err = resnets("convert", tmp_path / "bare.pth", out)
    assert (code, "option A's or none" in err) == (4, True)
    assert resnets("convert", tmp_path / "bare.pth", out, "--model", "resnet8")[0] == 0
    assert resnets("diff", file, out)[1].startswith("44 tensors are the same bit for bit, 0 differ")


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
