"""Hints of the library on the command line: in the command's own words, and they lead somewhere."""

import json
import re
import shlex
import shutil

import pytest
import torch
import typer

from conftest import coloured
from resnets import cli, create_model, evaluate, export, predict
from resnets.cli.arguments import for_command
from resnets.errors import CheckpointError, UsageError

# Each with FILE for the checkpoint.
COMMANDS = {
    "predict": "predict FILE photos/a/0.png",
    "evaluate": "evaluate FILE photos",
    "export": "export FILE --to torch --out new.pt2",
    "embed": "embed photos --model FILE --out new.npz",
    "features": "features photos/a/0.png --model FILE --out new.html",
    "inspect": "inspect FILE",
    "convert": "convert FILE new.safetensors",
    "diff": "diff FILE FILE",
}
WITHOUT_CLASSIFIER = ("embed", "features", "inspect", "convert", "diff")
PYTHON = re.compile(r'="|create_model|load_weights|model\.preprocess|check_variant|head=')


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, and checkpoints about which something has to be said."""
    folder = tmp_path_factory.mktemp("hints")
    (folder / "photos" / "a").mkdir(parents=True)
    (folder / "photos" / "b").mkdir()
    for number, name in enumerate("ab"):
        coloured(number, 0, 20).save(folder / "photos" / name / "0.png")
    torch.manual_seed(0)
    small = {"num_classes": 2, "image_size": 16}
    weights = create_model("resnet20_b", **small).state_dict()
    other = {key: tensor + 1 for key, tensor in weights.items()}
    body = {key: tensor for key, tensor in weights.items() if not key.startswith("fc.")}

    def under(word, tensors):
        return {f"{word}.{key}": tensor for key, tensor in tensors.items()}

    files = {
        "plain": weights,
        "side by side": under("backbone", weights) | under("trunk", other),
        "unknown words": under("rgb", weights) | under("depth", other),
        "containers": {"state_dict": weights, "network": other},
        "option A": create_model("resnet20", **small).state_dict(),
        "no classifier": {"state_dict": under("backbone", body)},
    }
    for name, tree in files.items():
        torch.save(tree, folder / f"{name}.pth")
    return folder


def options_of(command: str) -> set[str]:
    found = typer.main.get_command(cli.app).commands[command]
    return {name for parameter in found.params for name in parameter.opts}


def hint_of(err: str) -> str:
    return next(line for line in err.splitlines() if line.startswith(" hint: "))[7:]


@pytest.mark.parametrize(
    "name", ["plain", "side by side", "unknown words", "containers", "option A"]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_hints_say_leads_to_the_end(resnets, folder, tmp_path, monkeypatch, command, name):
    """Typed as they stand, one after the other; no command asks for what it does not have."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(folder / "photos")
    file = str(folder / f"{name}.pth")
    words = [word.replace("FILE", file) for word in COMMANDS[command].split()]
    for _ in range(4):
        code, _, err = resnets(*words)
        if code == 0:
            return
        hint = hint_of(err)
        assert not PYTHON.search(hint), hint
        named = set(re.findall(r"--[a-z]+", hint))
        assert named <= options_of(command), hint
        told = re.search(r"(--(?:container|dialect|preprocess|head) [^ ;]+|--model NAME)", hint)
        assert told, err
        if told[1] != "--model NAME":
            words += shlex.split(told[1])
        elif "--weights FILE" in hint:
            place = words.index("--model") + 1
            words[place : place + 1] = ["resnet20", "--weights", file]
        else:
            words += ["--model", "resnet20"]
    pytest.fail(err)


@pytest.mark.parametrize("command", COMMANDS)
def test_only_what_answers_needs_a_classifier(resnets, folder, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(folder / "photos")
    file = folder / "no classifier.pth"
    words = [str(file) if word == "FILE" else word for word in COMMANDS[command].split()]
    if "--preprocess" in options_of(command):
        words += ["--preprocess", "mean=0.5 std=0.25"]
    code, out, err = resnets(*words)
    if command in WITHOUT_CLASSIFIER:
        assert code == 0, err
    else:
        assert (code, "no classifier" in err) == (4, True)
        assert hint_of(err) == "`resnets embed` and `resnets features` do without"
    if command == "embed":
        assert "2 images, 64 numbers each" in out
        words[words.index("new.npz")] = "again.npz"
        assert resnets(*words)[0] == 0
        assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "new.npz").read_bytes()
    if command == "features":
        page = (tmp_path / "new.html").read_text("utf-8")
        assert "Its weights have no classifier" in page
        assert "Where it looks" not in page


@pytest.mark.parametrize("command", ["embed", "features"])
def test_weights_without_a_classifier_for_a_named_model(resnets, tmp_path, command):
    torch.manual_seed(0)
    sd = create_model("resnet8_b").state_dict()
    tensors = {f"encoder_q.{k}": v for k, v in sd.items() if not k.startswith("fc.")}
    torch.save({"state_dict": tensors}, tmp_path / "moco.pth")
    (tmp_path / "pics").mkdir()
    coloured(0, 0).save(tmp_path / "pics" / "0.png")
    what = tmp_path / "pics" / ("0.png" if command == "features" else "")
    out = tmp_path / ("t.npz" if command == "embed" else "page.html")
    words = [command, what, "--model", "resnet8_b", "--weights", tmp_path / "moco.pth"]
    code, text, err = resnets(*words, "--preprocess", "imagenet", "--out", out)
    assert code == 0, err
    if command == "embed":
        assert "1 image, 64 numbers each" in text


@pytest.mark.parametrize(
    ("hint", "options", "told"),
    [
        ('choose one: container="a b"', {"--container"}, "choose one: --container 'a b'"),
        ('choose one: container="a"', set(), "`resnets inspect FILE` says what is known of it"),
        ('it looks like x; head="drop" goes on, head="keep" does', set(), "it looks like x"),
        ('x; head="drop" goes on, head="keep" does', {"--head"}, "x; --head keep does"),
        ('create_model("resnet18") is such a network', set(), "resnet18 is such a network"),
        ("x; check_variant=False loads them", set(), "x"),
        ("save `model.state_dict()` instead", set(), "save `model.state_dict()` instead"),
        ("Keras writes model.save('x.keras')", set(), "Keras writes model.save('x.keras')"),
        ("resume with: resnets train --resume r", set(), "resume with: resnets train --resume r"),
        ("", set(), ""),
    ],
)
def test_in_the_commands_words(hint, options, told):
    assert for_command(hint, options) == told


@pytest.mark.filterwarnings("ignore:nothing says what its outputs mean")
def test_functions_take_the_prefix_that_they_are_told(folder, tmp_path):
    """One network of two, whose names nobody knows: both are listed, and either is taken."""
    rgb = torch.load(folder / "plain.pth")
    depth = rgb | {"fc.bias": torch.tensor([1.0, 0.0])}
    networks = {"rgb": rgb, "depth": depth}
    tree = {f"{word}.{key}": t for word, net in networks.items() for key, t in net.items()}
    tree |= {"normalizer.mean": torch.full((3,), 0.5), "normalizer.std": torch.full((3,), 0.25)}
    file, image = tmp_path / "two.pth", folder / "photos" / "a" / "0.png"
    torch.save(tree, file)
    calls = {
        "predict": lambda **reading: next(predict(file, image, **reading)).probabilities,
        "evaluate": lambda **reading: evaluate(file, folder / "photos", **reading).loss,
        "export": lambda **reading: export(
            file, tmp_path / "x.safetensors", to="safetensors", overwrite=True, **reading
        ).record["network"]["sha256"],
    }
    for name, call in calls.items():
        with pytest.raises(CheckpointError, match=r"several networks.*: rgb, depth") as refused:
            call()
        assert refused.value.hint == 'choose one of them: container="rgb"', name
        assert call(container="rgb") != call(container="depth"), name
    with pytest.raises(UsageError, match="the model: holds one network: no container"):
        evaluate(create_model("resnet20_b"), folder / "photos", container="rgb")
    with pytest.raises(UsageError, match=r"m\.onnx: holds one network: no dialect and ema"):
        [*predict("m.onnx", image, dialect="timm", ema=True)]


def test_training_starts_from_the_network_that_is_chosen(resnets, tmp_path):
    words = ["train", "digits", "--model", "resnet8", "--set", "schedule.iterations=1"]
    words += ["--set", "augment.mirror=false", "--out", tmp_path / "run"]
    two, one = tmp_path / "two.pth", tmp_path / "depth.pth"
    networks = {
        word: create_model("resnet8", in_channels=1, num_classes=10).state_dict()
        for word in ("rgb", "depth")
    }
    torch.save(networks["depth"], one)
    torch.save({f"{w}.{key}": t for w, net in networks.items() for key, t in net.items()}, two)
    code, _, err = resnets(*words, "--weights", two)
    assert (code, hint_of(err)) == (4, "choose one of them: --container rgb")
    code, _, err = resnets(*words, "--container", "depth")
    assert (code, "container: of which weights?" in err) == (2, True)
    assert resnets(*words, "--weights", two, "--container", "depth")[0] == 0
    started = json.loads((tmp_path / "run" / "run.json").read_text())["weights"]
    assert started["reading"] == {"container": "depth"}
    # It is the same run as from a file with that network alone, and not as from the other.
    again = [*words, "--resume", "auto"]
    assert resnets(*again, "--weights", one)[0] == 0
    assert resnets(*again, "--weights", two, "--container", "rgb")[0] == 2
    # Killed before its first state it begins again with what it was told.
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"status": "running"}))
    for name in ("model.safetensors", "metrics.jsonl"):
        (tmp_path / "run" / name).unlink()
    shutil.rmtree(tmp_path / "run" / "state")
    code, _, err = resnets("train", "--resume", tmp_path / "run")
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["weights"] == started
