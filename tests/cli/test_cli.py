"""The command line as a user meets it: output, exit codes, one-line errors."""

import errno
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import coloured
from resnets import __version__, cli
from resnets.errors import (
    CheckpointError,
    DataError,
    NonFiniteError,
    ResourceError,
    Stopped,
    UsageError,
)

QUICK = ["--set", "schedule.epochs=2", "--set", "batch_size=8", "--set", "data.image_size=16"]
QUICK += ["--set", "optimizer.lr=0.1", "--set", "schedule.warmup=0"]  # for eight steps in all


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of images and a finished run on it."""
    folder = tmp_path_factory.mktemp("trained")
    for label, name in enumerate(["apple", "basil"]):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            coloured(label, number).save(folder / "photos" / name / f"{number}.png")
    words = ["train", folder / "photos", "--model", "resnet8", "--out", folder / "run", *QUICK]
    with pytest.raises(SystemExit) as caught:
        cli.main([*map(str, words)])
    assert not caught.value.code
    return folder / "photos", folder / "run"


def one_line_error(err: str, start: str = "error: ") -> str:
    """Check that the last words on stderr are one error line, at most a hint, no traceback."""
    lines = err.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(start))
    rest = lines[start + 1 :]
    assert "Traceback" not in err
    assert len(rest) <= 1
    assert all(line.startswith(" hint: ") for line in rest)
    return "\n".join(lines[start:])


def test_help_has_examples(resnets):
    commands = ["models", "show", "draw", "train", "evaluate", "predict", "report"]
    subcommands = [["data"], *(["data", c] for c in ("get", "check", "sample", "suspects"))]
    studies = ("responses", "gradients", "degradation", "depth", "lesion", "paths", "landscape")
    subcommands += [["study"], *(["study", name] for name in studies)]
    for words in ([], *([c] for c in commands), *subcommands):
        code, out, err = resnets(*words, "--help")
        assert code == 0, err
        examples = out.partition("Examples:\n")[2].splitlines()[:2]
        assert all(line.strip().startswith("resnets ") for line in examples)
        assert len(examples) == 2


def test_help_lists_the_exit_codes(resnets):
    _, out, _ = resnets("--help")
    listed = " ".join(out.partition("Exit codes: ")[2].split())
    kinds = (UsageError, DataError, CheckpointError, NonFiniteError, ResourceError, Stopped)
    assert {0, 1, 5, 130, *(kind.exit_code for kind in kinds)} == {
        int(entry.split()[0]) for entry in listed.split(", ")
    }
    assert listed.endswith("130 Ctrl-C.")


def test_models(resnets):
    code, out, _ = resnets("models", "resnet50*", "--json")
    assert code == 0
    names = [row["model"] for row in json.loads(out)]
    assert {"resnet50", "resnet50_v1"} <= set(names)
    assert all(name.startswith("resnet50") for name in names)
    code, out, _ = resnets("models", "resnet20", "--counts")
    assert "269,722" in out
    assert "40,551,040" in out
    assert resnets("models", "nothing")[0] == 0


def test_show(resnets):
    code, out, _ = resnets("show", "resnet50")
    assert code == 0
    assert "stride on the 3x3" in out
    assert "25,557,032 parameters, 4,089,184,256 multiply-adds" in out
    assert "[1x1, 256; 3x3, 256; 1x1, 1024] x 6" in out
    shown = json.loads(resnets("show", "resnet20", "--num-classes", "100", "--json")[1])
    assert shown["parameters"] == 269_722 + 90 * 65
    assert shown["spec"]["shortcut"] == "A"
    assert shown["spec"]["num_classes"] == 100
    assert shown["flops"] == 2 * shown["macs"]
    assert "8,178,368,512 flops" in resnets("show", "resnet50", "--flops")[1]


def test_show_writes_tensorboards_graph(resnets, tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    code, out, err = resnets("show", "resnet8", "--tensorboard", tmp_path / "graph")
    assert (code, "resnet8" in out, "tensorboard --logdir" in err) == (0, True, True)
    events = accumulator.EventAccumulator(str(tmp_path / "graph")).Reload()
    nodes = {node.name for node in events.Graph().node}
    assert any("Sequential[layer3]/BasicBlock[0]/Conv2d[conv2]" in name for name in nodes)

    (tmp_path / "file").touch()
    code, _, err = resnets("show", "resnet8", "--tensorboard", tmp_path / "file")
    assert (code, "cannot be written" in err) == (7, True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, _, err = resnets("show", "resnet8", "--tensorboard", tmp_path / "graph")
    assert (code, 'pip install "resnets[tensorboard]"' in err) == (7, True)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("resnet50", "keras.applications have it on the 1x1 (v1)"),
        ("resnet50_v1", "torchvision and timm have it on the 3x3"),
        ("resnet101_1x100d", "Xie et al. 2017, Table 4"),
        ("resnet20", "akamaster's CIFAR nets put half of the zero channels first"),
        ("resnet20_b", "the paper's CIFAR nets use option A"),
        ("resnet18_v2", "timm's resnetv2_18 and _34 add the raw stem"),
        ("keras_resnet20_v1", "pads bottom and right only"),
        ("resnext50_32x4d", "Xie et al. 2017"),
        ("wrn28_10", "Wide Residual Networks"),
        ("seresnet50", "se_resnet50: v1.5"),
    ],
)
def test_show_says_where_a_model_comes_from(resnets, model, words):
    assert words in resnets("show", model)[1]


def test_draw(resnets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resnets("draw", "resnet8")[:2] == (0, "resnet8.svg\n")
    assert (tmp_path / "resnet8.svg").read_text("utf-8").startswith("<svg ")
    assert resnets("draw", "plain8", "--out", "figures/plain.svg")[1] == "figures/plain.svg\n"
    assert (tmp_path / "figures" / "plain.svg").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["draw", "resnet5O"], 2, 'no model is called "resnet5O"'),
        (["show", "resnet5O"], 2, 'no model is called "resnet5O"'),
        (["show", "resnet21"], 2, "nearest valid depth: 20 or 26"),
        (["trian", "digits"], 2, "train"),
        (["show"], 2, "Missing argument"),
        (["show", "resnet50", "--image-size", "big"], 2, "image-size"),
        (["train", "digits", "--recipe", "he2016"], 2, 'no recipe is called "he2016"'),
        (["train", "digits", "--model", "vgg"], 2, 'no model is called "vgg"'),
        (["train", "digits", "--set", "optimizer.lr=no"], 2, "optimizer.lr"),
        (["train"], 2, "no data to train on"),
        (["train", "nowhere/"], 3, "nowhere: there is no such folder"),
        (["train", "cifer10"], 3, "did you mean cifar10"),
        (["train", "digits", "--device", "tpu"], 2, 'no device is called "tpu"'),
        (["train", "--resume", "nowhere"], 4, "not a run folder"),
        (["predict", "nowhere", "a.png"], 4, "no such file or folder"),
        (["evaluate", "nowhere", "digits"], 4, "no such file or folder"),
        (["report", "nowhere"], 4, "nowhere"),
        (["data", "check", "nowhere/"], 3, "there is no such folder"),
        (["data", "get", "mnist"], 2, '"mnist" cannot be downloaded'),
        (["data", "sample", "digits", "--split", "validation", "--out", "x"], 3, "it has train"),
    ],
)
def test_errors_are_one_line_with_the_right_code(
    resnets, words, code, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found, out, err = resnets(*words)
    assert found == code
    assert message in one_line_error(err)
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_no_arguments_show_the_help(resnets):
    for words in ([], ["data"]):
        code, _, err = resnets(*words)
        assert code == 2
        assert "Commands:" in err
        assert "error:" not in err


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "Permission denied", "locked"), 7),
        (OSError(28, "No space left on device"), 7),
        (MemoryError(), 7),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 7),
        (torch.OutOfMemoryError("CUDA out of memory"), 7),
        (RuntimeError("std::bad_alloc"), 7),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 7),
        (RuntimeError("can't start new thread"), 7),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 7),
        (caused(CheckpointError("cannot be computed"), MemoryError()), 7),
        (CheckpointError("its class std::bad_alloc is no text"), 4),  # which a file says
        (KeyboardInterrupt(), 130),
        (KeyError("x"), 1),
    ],
)
def test_every_error_is_one_line(failing, error, code):
    found, _, err = failing(error)
    assert found == code
    one_line_error(err)


def test_resume_takes_no_other_options(resnets, trained):
    code, _, err = resnets("train", "--resume", trained[1], "--model", "resnet110")
    assert code == 2
    assert "says with what it is resumed" in one_line_error(err)
    weights = trained[1] / "model.safetensors"  # which says nothing of the kind
    code, _, err = resnets("train", "digits", "--resume", weights, "--model", "resnet20")
    assert code == 4
    assert "is a file, not a run folder" in one_line_error(err)
    code, out, _ = resnets("train", "--resume", trained[1])
    assert code == 0
    assert out.startswith("held-out accuracy")


def test_debug_shows_the_traceback(resnets):
    assert "Traceback" in resnets("show", "vgg", "--debug")[2]


def test_predict(resnets, trained):
    photos, run = trained
    pictures = [photos / "apple" / "0.png", photos / "basil" / "0.png"]
    code, out, _ = resnets("predict", run, *pictures, "--json", "--top", 1)
    assert code == 0
    answers = json.loads(out)
    assert [a["path"] for a in answers] == [str(p) for p in pictures]
    assert [a["predictions"][0]["class"] for a in answers] == ["apple", "basil"]
    code, out, _ = resnets("predict", run, *pictures)
    assert len(out.splitlines()) == 2
    assert "apple" in out.splitlines()[0]


def test_what_is_given_in_place_of_weights_is_told(resnets, trained):
    photos, run = trained
    picture = photos / "apple/0.png"
    answers = resnets("predict", run, picture)
    assert resnets("predict", picture, "--model", run) == answers
    own = resnets("predict", picture)
    assert own[0] == 0
    assert resnets("predict", picture, "--model", "resnet20", "--weights", "cifar10")[1] == own[1]
    for words, said in (
        (["predict", picture, "--model", "resnet50"], "resnet50: a name alone has fresh weights"),
        (["predict", picture, "--weights", "cifar10"], "--weights: of which model?"),
        (["train", photos, "--weights", photos], f"{photos}: is a folder of images, not weights"),
        (["inspect", photos], f"{photos}: is a folder of images, not weights"),
        (["train", photos, "--weights", "cifar10"], 'the weights "cifar10" are those of resnet20'),
    ):
        code, out, err = resnets(*words)
        assert (code in (2, 4), out) == (True, "")
        assert said in one_line_error(err)
    assert err.endswith(" hint: --model resnet20\n")


def test_predict_goes_on_past_a_broken_picture(resnets, trained, tmp_path):
    photos, run = trained
    (tmp_path / "broken.jpg").write_text("hello")
    code, out, err = resnets(
        "predict", run, tmp_path / "broken.jpg", photos / "apple/1.png", tmp_path / "none.png"
    )
    assert code == 3
    assert len(out.splitlines()) == 1
    assert "broken.jpg: is text, not an image" in err
    assert "none.png: cannot be read" in err
    assert "addresses are not fetched" in resnets("predict", run, "https://x.org/a.png")[2]


def test_evaluate_agrees_with_the_run(resnets, trained, tmp_path):
    """On the run's own data the held-out split is the run's; other images are taken whole."""
    photos, run = trained
    recorded = json.loads((run / "run.json").read_text())["results"]["validation"]
    scores = json.loads(resnets("evaluate", run, photos, "--json")[1])
    assert scores["split"] == "validation"
    assert {key: scores[key] for key in recorded} == recorded
    assert [found["name"] for found in scores["classes"]] == ["apple", "basil"]
    for label, name in enumerate(["apple", "basil"]):
        (tmp_path / "more" / name).mkdir(parents=True)
        for number in range(50, 53):
            coloured(label, number).save(tmp_path / "more" / name / f"{number}.png")
    code, out, _ = resnets("evaluate", run, tmp_path / "more")
    assert code == 0
    assert out.startswith("all: 6 images, accuracy 1.0")
    assert resnets("evaluate", run, photos, "--split", "test")[0] == 3


def test_evaluate_leaves_out_what_the_model_does_not_have(resnets, trained, photos):
    code, out, _ = resnets("evaluate", trained[1], photos)
    assert code == 0
    assert out.startswith("all: 20 images, accuracy ")
    assert "10 images of 'ceramic', which the model does not have, are left out\n" in out


def test_report_of_one_and_of_two(resnets, trained, tmp_path):
    code, out, _ = resnets("report", trained[1], "--out", tmp_path / "one.html")
    assert (code, out.strip()) == (0, str(tmp_path / "one.html"))
    shutil.copytree(trained[1], tmp_path / "twin")
    assert resnets("report", trained[1], tmp_path / "twin", "--out", tmp_path / "two.html")[0] == 0
    assert "twin" in (tmp_path / "two.html").read_text()


def test_data_check_finds_what_is_wrong(resnets, photos):
    code, out, _ = resnets("data", "check", photos)
    assert code == 0
    assert "ceramic" in out
    shutil.copy(photos / "apple/0.png", photos / "basil/twin.png")
    (photos / "apple/broken.png").write_bytes(b"")
    code, out, _ = resnets("data", "check", photos)
    assert code == 3
    assert "broken: apple/broken.png" in out
    assert "the same image in two classes: apple/0.png, basil/twin.png" in out
    assert json.loads(resnets("data", "check", photos, "--json")[1])["sound"] is False


def test_data_sample_of_more_than_there_is(resnets, photos, tmp_path):
    words = ["--split", "train", "--count", 99, "--out", tmp_path / "s"]
    _, out, _ = resnets("data", "sample", photos, *words)
    assert len(set(out.splitlines())) == len(list((tmp_path / "s").iterdir())) == 30


def test_data_sample(resnets, tmp_path):
    code, out, _ = resnets("data", "sample", "digits", "--count", "3", "--out", tmp_path / "s")
    assert code == 0
    assert len(out.splitlines()) == len(list((tmp_path / "s").iterdir())) == 3


def test_a_broken_picture_or_an_empty_class_stops_before_anything_is_written(
    resnets, photos, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (photos / "apple/broken.jpg").write_bytes(b"\xff\xd8\xff")
    code, _, err = resnets("train", photos, "--model", "resnet8", *QUICK)
    assert code == 3
    assert "1 of 31 images cannot be read; the first: apple/broken.jpg is" in one_line_error(err)
    assert "--set data.broken=skip" in err
    (photos / "apple/broken.jpg").unlink()
    (photos / "empty").mkdir()
    code, _, err = resnets("train", photos, "--model", "resnet8", *QUICK)
    assert code == 3
    assert "class empty has no images to train on" in one_line_error(err)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_skipped_pictures_are_listed(resnets, photos, tmp_path):
    (photos / "apple/broken.jpg").write_bytes(b"\xff\xd8\xff")
    words = ["--model", "resnet8", *QUICK, "--set", "data.broken=skip", "--out", tmp_path / "run"]
    code, _, err = resnets("train", photos, *words)
    assert code == 0
    assert "1 left out, listed in" in err
    listed = json.loads((tmp_path / "run/data.json").read_text())["skipped"]
    assert [item["path"] for item in listed] == ["apple/broken.jpg"]


def test_a_folder_beside_the_splits_is_told(resnets, photos, tmp_path):
    """Its owner may take it for a split."""
    for split in ("train", "test", "dev"):
        shutil.copytree(photos / "apple", tmp_path / "split" / split / "apple")
        shutil.copytree(photos / "basil", tmp_path / "split" / split / "basil")
    words = ["--model", "resnet8", *QUICK, "--out", tmp_path / "run"]
    code, _, err = resnets("train", tmp_path / "split", *words)
    assert code == 0
    told = "left out: dev/ is beside the splits, and is none"
    assert told in err.splitlines()
    code, out, err = resnets("evaluate", tmp_path / "run", tmp_path / "split")
    assert code == 0
    assert told in out + err
    assert "image is left out" not in out + err


def test_a_tar_that_may_have_been_cut_off_is_told(resnets, photos, tmp_path):
    subprocess.run(["tar", "cf", tmp_path / "p.tar", "-C", photos, "."], check=True)
    whole = (tmp_path / "p.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "p.tar").write_bytes(whole + bytes(-len(whole) % 512))
    words = ["--model", "resnet8", *QUICK, "--out", tmp_path / "run"]
    code, _, err = resnets("train", tmp_path / "p.tar", *words)
    assert code == 0
    assert "left out: p.tar ends without the mark of a tar's end" in err


def test_a_run_inside_the_data_is_refused(resnets, photos, monkeypatch):
    monkeypatch.chdir(photos)
    code, _, err = resnets("train", ".", "--model", "resnet8", *QUICK)
    assert code == 2
    assert "would become a part of the data" in one_line_error(err)
    assert {p.name for p in photos.iterdir()} == {"apple", "basil", "ceramic"}


def test_a_run_goes_on_from_any_folder(resnets, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos.parent)
    words = ["--model", "resnet8", *QUICK, "--resume", "auto", "--out", tmp_path / "run"]
    assert resnets("train", "photos", *words)[0] == 0
    monkeypatch.chdir("/")
    code, out, _ = resnets("train", f"{photos}/", *words)  # the same data, spelt otherwise
    assert code == 0
    assert out.startswith("held-out accuracy")


def test_a_damaged_record_is_one_line(resnets, trained, tmp_path):
    shutil.copytree(trained[1], tmp_path / "run")
    for text in ("{}", "[1]", "{"):
        (tmp_path / "run/run.json").write_text(text)
        code, _, err = resnets("train", "--resume", tmp_path / "run")
        assert code == 4
        assert "run.json" in one_line_error(err)
        assert "damaged" in err


def test_nothing_held_out_is_said(resnets, photos, tmp_path):
    words = ["--model", "resnet8", *QUICK, "--set", "data.holdout=0", "--out", tmp_path / "run"]
    code, out, err = resnets("train", photos, *words)
    assert (code, out) == (0, "")
    assert "nothing held out" in err
    assert "no accuracy: the data have neither" in err


def test_tables_are_never_cut(resnets, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    out = resnets("show", "resnet50")[1]
    row = next(line for line in out.splitlines() if line.startswith("layer3"))
    assert row.split("  ")[-1].strip() == "267"
    assert "7,098,368" in row
    assert all(line == line.rstrip() for line in out.splitlines())


def test_a_full_disk_ends_in_one_line_and_no_half_file(photos, tmp_path):
    """The limit on a file's size stands for the disk: the weights do not fit."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    words = ["train", photos, "--model", "resnet8", *QUICK, "--out", tmp_path / "run"]
    result = subprocess.run(
        [sys.executable, "-m", "resnets", *map(str, words)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert result.returncode == 7, result.stderr
    assert "cannot be written: File too large" in one_line_error(result.stderr)
    files = [p.name for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert "model.safetensors" not in files
    assert not [name for name in files if name.endswith(".tmp")]
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"


def test_ctrl_c_and_resume(photos, tmp_path):
    words = ["train", photos, "--model", "resnet8", *QUICK, "--set", "schedule.epochs=5000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "resnets", *map(str, words), "--out", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
    )
    states = tmp_path / "run/state"
    try:
        while not any(states.glob("step-*")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130
    one_line_error(err, "stopped and saved at step")
    assert "error:" not in err
    assert f"resume with: resnets train --resume {tmp_path / 'run'}" in err
    assert "\x1b" not in err  # no colours in a pipe


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m resnets models --json | head -1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True
    )
    assert result.stderr == ""


def test_version(resnets):
    assert resnets("--version")[1] == f"resnets {__version__}\n"
