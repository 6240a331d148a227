"""The loop: what a step does, what a run writes, and that resuming is resuming."""

import itertools
import json
import shlex
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

import resnets
import resnets.machine.environment
from conftest import at_step, largest_file, signal_at, tiny_dataset
from resnets import audit, create_model, get_spec, open_model
from resnets.data.dataset import MemoryImages
from resnets.errors import (
    CheckpointError,
    DataError,
    NonFiniteError,
    ResourceError,
    Stopped,
    UsageError,
)
from resnets.nn import ResNet
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.reading import read_run
from resnets.training.recipe import load_recipe, read_recipe
from resnets.training.tensorboard import TensorBoard
from resnets.training.train import train

RECIPE = load_recipe(
    "default", ["schedule.epochs=3", "batch_size=8", "data.holdout=10", "optimizer.lr=0.05"]
)


NARROW = replace(get_spec("resnet8"), widths=(4, 8, 16), stem_width=4)


@pytest.fixture(scope="module", autouse=True)
def without_onednn():
    """It is slower for so little."""
    torch.backends.mkldnn.enabled = False
    yield
    torch.backends.mkldnn.enabled = True


def run(out, recipe=RECIPE, model=NARROW, data=None, **options):
    data = data or tiny_dataset()
    return train(data, model=model, recipe=recipe, out=out, quiet=True, **options)


def of_length(steps):
    return load_recipe(RECIPE, [f"schedule.iterations={steps}"])  # epochs of five steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return an uninterrupted run of so many steps, which tests only read."""
    made = {}

    def get(steps=15):
        if steps not in made:
            made[steps] = run(tmp_path_factory.mktemp("whole") / "run", of_length(steps))
        return made[steps]

    return get


def resume(path, quiet=True, **options):
    return train(tiny_dataset(), resume=path, quiet=quiet, **options)


def newest(run):
    return RunFolder(run).states()[0]


def without_times(path):
    times = ("train_seconds", "data_seconds", "images_per_second", "seconds")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in times} for line in lines]


def test_a_run_learns_and_writes_its_folder(whole):
    result = whole()
    folder = result.path
    assert result.results["test"]["accuracy"] >= 0.9
    assert result.results["test"]["samples"] == 20
    assert result.results["validation"]["samples"] == 10
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["results"] == result.results
    assert record["progress"]["step"] == record["progress"]["steps"] == 15
    assert record["model"]["spec"]["num_classes"] == 2
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [5, 10, 15]
    assert all(line["samples"] == 40 for line in metrics)
    assert load_recipe(folder / "recipe.yaml").schedule.iterations == 15
    assert result.report.read_text().startswith("<!")
    names = {p.name for p in folder.iterdir()}
    assert not [name for name in names if name.endswith(".tmp")]
    model = open_model(folder)
    assert model.classes == ("top", "bottom")
    assert not model.training


def test_iterations_stop_within_an_epoch(whole):
    result = whole(7)
    metrics = without_times(result.path / "metrics.jsonl")
    assert [line["step"] for line in metrics] == [5, 7]
    assert [line["samples"] for line in metrics] == [40, 16]
    assert result.results["train"]["images_per_second"] > 0


def test_two_runs_are_equal_to_the_bit(tmp_path, whole):
    run(tmp_path / "b")  # as many steps, in epochs
    a, b = (load_file(path / "model.safetensors") for path in (whole().path, tmp_path / "b"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    run(tmp_path / "c", load_recipe(RECIPE, ["seed=1"]))
    c = load_file(tmp_path / "c" / "model.safetensors")
    assert not torch.equal(a["fc.weight"], c["fc.weight"])


SOME = [(15, step) for step in (0, 4, 9, 14)] + [(7, step) for step in (1, 4, 6)]
ALL = [(steps, step) for steps in (7, 15) for step in range(steps) if (steps, step) not in SOME]


@pytest.mark.parametrize(
    ("steps", "step"), SOME + [pytest.param(*case, marks=pytest.mark.slow) for case in ALL]
)
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, whole, steps, step):
    expected = whole(steps)
    with (
        signal_at(step),
        pytest.raises(Stopped, match=f"saved at step {step + 1} of {steps}") as caught,
    ):
        run(tmp_path / "parts", of_length(steps))
    assert caught.value.exit_code == 75
    assert str(tmp_path / "parts") in caught.value.hint
    assert json.loads((tmp_path / "parts/run.json").read_text())["status"] == "stopped"
    resumed = resume(tmp_path / "parts")
    for name in ("model.safetensors", newest(expected.path).relative_to(expected.path)):
        a, b = load_file(expected.path / name), load_file(resumed.path / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    metrics = [without_times(found.path / "metrics.jsonl") for found in (expected, resumed)]
    assert metrics[0] == metrics[1]
    assert resumed.results["test"] == expected.results["test"]


def test_checkpointing_comes_and_goes_and_changes_nothing(tmp_path):
    model = replace(NARROW, drop_path=0.3)
    with signal_at(4), pytest.raises(Stopped):
        run(tmp_path / "run", model=model, checkpointing=True)
    resume(tmp_path / "run")
    run(tmp_path / "plain", model=model)
    run(tmp_path / "checkpointed", model=model, checkpointing=True)
    whole = load_file(tmp_path / "plain/model.safetensors")
    for name in ("run", "checkpointed"):
        other = load_file(tmp_path / name / "model.safetensors")
        assert all(torch.equal(whole[key], other[key]) for key in whole)


def test_what_the_network_draws_depends_on_the_step_alone(tmp_path):
    model = replace(NARROW, drop_path=0.5, dropout=0.5)
    run(tmp_path / "whole", model=model)
    with signal_at(6), pytest.raises(Stopped):
        run(tmp_path / "parts", model=model)
    torch.rand(3)  # other people's numbers
    resume(tmp_path / "parts")
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    before = signal.getsignal(signal.SIGINT)  # a job in the background has it ignored
    with signal_at(2, signal.SIGINT), pytest.raises(Stopped) as caught:
        run(tmp_path / "run")
    assert caught.value.exit_code == 130
    assert caught.value.hint == f"resume with: resnets train --resume {tmp_path / 'run'}"
    assert signal.getsignal(signal.SIGINT) is before


def test_resume_auto(tmp_path):
    with signal_at(3), pytest.raises(Stopped):
        run(tmp_path / "run", resume="auto")
    finished = run(tmp_path / "run", resume="auto")
    assert run(tmp_path / "run", resume="auto") == finished  # nothing left to do


def test_resume_auto_does_not_take_another_run_for_its_own(tmp_path, whole):
    shutil.copytree(whole().path, tmp_path / "run")
    with pytest.raises(UsageError, match=r"finished run.* another one: seed: 0 before, 5 now\n"):
        run(tmp_path / "run", load_recipe(of_length(15), ["seed=5"]), resume="auto")


def test_a_run_killed_before_its_first_state_starts_again(tmp_path, whole):
    with at_step(0, lambda: sys.exit(9)), pytest.raises(SystemExit):
        run(tmp_path / "run")
    assert not (tmp_path / "run/state").exists()
    again = run(tmp_path / "run", resume="auto")
    assert again.results["test"] == whole().results["test"]


def test_a_run_whose_state_is_gone_is_left_alone(tmp_path):
    with signal_at(12), pytest.raises(Stopped):
        run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run/state")
    with pytest.raises(CheckpointError, match="its state is gone"):
        resume(tmp_path / "run")
    with pytest.raises(CheckpointError, match="its state is gone"):
        run(tmp_path / "run", resume="auto")
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2


class Interrupting(MemoryImages):
    def batch(self, ids):
        raise KeyboardInterrupt


def test_interrupted_in_the_last_evaluation(tmp_path, whole):
    data = tiny_dataset()
    test = replace(data.test, images=Interrupting(data.test.images.pixels))
    with pytest.raises(Stopped) as caught:
        run(tmp_path / "run", data=replace(data, test=test))
    assert caught.value.exit_code == 130
    assert "resnets train --resume" in caught.value.hint
    found = resume(tmp_path / "run").results
    assert found == whole().results | {"train": found["train"]}


@contextmanager
def spoiled_after(step, value):
    """Give the classifier's last bias a value after so many steps."""
    steps = itertools.count(1)

    def spoil(optimizer, *_):
        if next(steps) == step:
            optimizer.param_groups[-1]["params"][-1].data[-1] = value

    handle = register_optimizer_step_post_hook(spoil)
    try:
        yield
    finally:
        handle.remove()


def test_divergence_ends_before_the_state_is_replaced(tmp_path):
    message = "the loss on 10 samples is nan"
    with spoiled_after(10, float("nan")), pytest.raises(NonFiniteError, match=message):
        run(tmp_path / "run")
    assert newest(tmp_path / "run").name == "step-00000005.safetensors"
    healthy = load_file(newest(tmp_path / "run"))
    assert all(t.isfinite().all() for t in healthy.values())


def test_a_bad_weight_is_found_without_held_out_samples(tmp_path):
    recipe = load_recipe(RECIPE, ["schedule.iterations=1", "data.holdout=0"])
    message = r"fc.bias has a value that is NaN or infinite"
    with spoiled_after(1, float("inf")), pytest.raises(NonFiniteError, match=message):
        run(tmp_path / "run", recipe)


def test_infinite_statistics_are_found_though_the_loss_is_finite(tmp_path):
    """A norm divides by the batch's own: all of it becomes 0, and training goes on."""
    start = create_model(NARROW, num_classes=2).state_dict()
    start["layer2.0.conv1.weight"] *= 1e25
    message = r"layer2.0.bn1.running_var has a value that is NaN or infinite after step 1"
    with pytest.raises(NonFiniteError, match=message) as caught:
        run(tmp_path / "run", of_length(1), weights=start)
    assert caught.value.hint == "lower optimizer.lr"  # there is no earlier state
    assert RunFolder(tmp_path / "run").states() == []


@pytest.mark.parametrize("fault", ["gone", "full"])
def test_events_that_cannot_be_written_are_one_error(tmp_path, capsys, fault):
    """They are written by a thread of TensorBoard's, which is not to print a traceback."""
    pytest.importorskip("tensorboard")
    tracker = TensorBoard(purge_step=1)
    tracker.begin(tmp_path, {}, "")
    if fault == "gone":
        shutil.rmtree(tmp_path / "tensorboard")
    message = "tensorboard: cannot be written: "
    size = 64 if fault == "full" else 1 << 20
    with largest_file(size), pytest.raises(ResourceError, match=message):
        tracker.epoch(1, {"loss": 1.0, "accuracy": 0.5})
    assert capsys.readouterr().err == ""


def test_tensorboard_has_every_epoch_once_after_a_resume(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for step in (4, 6):  # at the end of an epoch, and within one
        with signal_at(step), pytest.raises(Stopped):
            run(tmp_path / f"{step}")
        time.sleep(1 - time.time() % 1)  # TensorBoard reads files in the order of their seconds
        resume(tmp_path / f"{step}")
        events = accumulator.EventAccumulator(str(tmp_path / f"{step}/tensorboard")).Reload()
        assert [event.step for event in events.Scalars("train/loss")] == [5, 10, 15]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.image_size=64", "data.image_size is 64, but tiny has images of 8"),
        ("augment.padding=8", "cannot be reflected so far"),
        ("data={image_size: 8, eval_size: 9}", "data.eval_size is 9, but tiny has images of 8"),
        ("data.resize=9", "data.resize is 9, but tiny has images of 8"),
        (
            "data={image_size: 8, eval_size: 12, normalize: pixel_mean}",
            "the mean image exclude each other",
        ),
    ],
)
def test_sizes_that_do_not_fit(tmp_path, setting, message):
    data = tiny_dataset(side=12 if "12" in setting else 8)
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "run", load_recipe(RECIPE, [setting]), data=data)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["augment.policy=timm", "augment.jitter=[0.4,0.4,0.4,0]"])
def test_policies_are_for_grey_or_colour(tmp_path, setting):
    images = torch.zeros(20, 4, 16, 16, dtype=torch.uint8)
    recipe = load_recipe("default", [setting])
    with pytest.raises(UsageError, match="are for 1 channel or 3, not 4"):
        train((images, torch.arange(20) % 2), model="resnet8", recipe=recipe, out=tmp_path / "run")


@pytest.mark.parametrize("settings", [["batch_size=1"], ["optimizer.accumulate=8"]])
def test_single_pictures_with_maps_of_1x1_are_refused(tmp_path, settings):
    recipe = load_recipe(RECIPE, settings)
    with pytest.raises(UsageError, match="last maps are 1x1"):
        train(tiny_dataset(), model="resnet18", recipe=recipe, out=tmp_path / "run")


def test_the_report_reads_what_training_writes(whole):
    record = read_run(whole().path)
    assert record.notes == ()
    assert [epoch.step for epoch in record.epochs] == [5, 10, 15]
    stages = [stage.name for stage in record.model.stages]
    assert stages == ["conv1", "layer1", "layer2", "layer3", "fc"]
    assert "batch_size: 8" in record.recipe_text


def test_evaluation_sees_what_the_recipe_says(photos, tmp_path):
    """Of another size than training, of the middle of images scaled as it says."""
    settings = [
        "data={holdout: 6, image_size: 8, eval_size: 12, resize: 14, interpolation: bicubic}"
    ]
    settings += ["augment.padding=0", "augment.area=[0.3,1]", "schedule.epochs=1"]
    run(tmp_path / "run", load_recipe(RECIPE, settings), data=photos)
    model = open_model(tmp_path / "run")
    found = model.preprocess
    assert (found.size, found.resize, found.interpolation) == (12, 14, "bicubic")
    assert model.spec.image_size == 12
    with Image.open(photos / "apple/3.png") as image:
        short = min(image.size)
        sides = tuple(14 * side // short for side in image.size)
        scaled = np.asarray(image.convert("RGB").resize(sides, Image.Resampling.BICUBIC))
    top, left = (round((side - 12) / 2) for side in scaled.shape[:2])
    square = scaled[top : top + 12, left : left + 12].transpose(2, 0, 1)
    assert np.array_equal(found.squares(photos / "apple/3.png")[0], square)
    seen = found.normalize(torch.from_numpy(square.copy())[None])
    assert found(photos / "apple/3.png").equal(seen)


def test_training_is_at_the_images_size_where_only_evaluation_has_another(tmp_path):
    settings = ["data.eval_size=9", "data.holdout=4", "schedule.iterations=2"]
    recipe, data = load_recipe(RECIPE, settings), tiny_dataset(side=12)
    with signal_at(0), pytest.raises(Stopped):
        run(tmp_path / "run", recipe, data=data)
    run(tmp_path / "run", recipe, data=data, resume="auto")
    assert open_model(tmp_path / "run").preprocess.size == 9
    assert read_recipe(tmp_path / "run/recipe.yaml").data.image_size == 12


def test_repeated_augmentation_resumes_and_is_audited(tmp_path):
    """Every image that comes comes three times, in one batch or two."""
    recipe = load_recipe(RECIPE, ["data.repeats=3", "schedule.iterations=12"])
    data = tiny_dataset(520)  # 510 to train on: 256 draws
    with signal_at(7), pytest.raises(Stopped):
        run(tmp_path / "run", recipe, data=data)
    with pytest.raises(CheckpointError, match=r"data\.repeats: 3 before, 2 now"):
        train(data, resume=tmp_path / "run", settings=["data.repeats=2"], quiet=True)
    run(tmp_path / "run", recipe, data=data, resume="auto")
    run(tmp_path / "whole", recipe, data=data)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    found = audit(tmp_path / "run")
    assert found.ok, found.differences
    (samples,) = (check.found for check in found.checks if check.name == "samples")
    assert samples == "0 epochs, 256 draws each, an image at most 3 times; then 96 of them"


def test_the_command_in_the_record_repeats_the_run(photos, tmp_path):
    recipe = load_recipe(RECIPE, ["data.image_size=8", "data.holdout=3", "augment.padding=1"])
    run(tmp_path / "my run", recipe, model="resnet8", data=photos)
    words = shlex.split(json.loads((tmp_path / "my run/run.json").read_text())["command"])
    assert words[:3] == ["resnets", "train", str(photos)]
    options = [word.removeprefix("--") for word in words[3:]]
    train(words[2], **dict(zip(options[::2], options[1::2], strict=True)), quiet=True)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("my run", "my run-again"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_command_of_a_net_without_a_name_is_a_call_that_repeats_the_run(photos, tmp_path):
    recipe = load_recipe(RECIPE, ["data.image_size=8", "data.holdout=3", "augment.padding=1"])
    scaled = replace(get_spec("resnet8"), name="resnet8_scaled", shortcut_scale=0.5)
    run(tmp_path / "run", recipe, model=scaled, data=photos)
    eval(json.loads((tmp_path / "run/run.json").read_text())["command"], {"resnets": resnets})
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "run-again"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_another_recipe_or_data_set_is_refused(tmp_path):
    with signal_at(3), pytest.raises(Stopped):
        run(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"optimizer.lr: 0.05 before, 0.1 now"):
        run(tmp_path / "run", load_recipe(RECIPE, ["optimizer.lr=0.1"]), resume="auto")
    other = tiny_dataset()
    object.__setattr__(other, "fingerprint", "f" * 64)
    with pytest.raises(DataError, match="the images or labels have changed"):
        train(other, resume=tmp_path / "run", quiet=True)


def test_settings_change_on_purpose(tmp_path):
    with signal_at(7), pytest.raises(Stopped):
        run(tmp_path / "run")
    with pytest.raises(CheckpointError, match="batch_size: 8 before, 4 now"):
        resume(tmp_path / "run", settings=["batch_size=4"])
    with pytest.raises(UsageError, match="is at step 8 already"):
        resume(tmp_path / "run", settings=["schedule.epochs=1"])
    changes = ["optimizer.lr=0.02", "schedule.epochs=4"]
    resume(tmp_path / "run", settings=changes)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["changes"] == [{"step": 8, "settings": changes}]
    assert record["progress"]["step"] == 20
    assert load_recipe(tmp_path / "run/recipe.yaml").optimizer.lr == 0.02
    assert audit(tmp_path / "run").ok
    with pytest.raises(UsageError, match="is finished"):
        resume(tmp_path / "run", settings=changes)


def test_a_change_survives_a_kill_before_the_next_state(tmp_path):
    changes = ["optimizer.lr=0.02"]
    for name in ("run", "other"):
        with signal_at(7), pytest.raises(Stopped):
            run(tmp_path / name)
    with at_step(0, lambda: sys.exit(9)), pytest.raises(SystemExit):
        resume(tmp_path / "run", settings=changes)
    resume(tmp_path / "run")
    resume(tmp_path / "other", settings=changes)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "other"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert len(json.loads((tmp_path / "run/run.json").read_text())["changes"]) == 1


def test_a_length_that_cuts_the_books_is_refused(tmp_path):
    for step, length in ((2, 3), (6, 7)):
        with signal_at(step), pytest.raises(Stopped):
            run(tmp_path / f"{step}")
        settings = [f"schedule.iterations={length}"]
        with pytest.raises(UsageError, match=f"is at step {step + 1} already"):
            resume(tmp_path / f"{step}", settings=settings)
    recipe = load_recipe(RECIPE, ["schedule.iterations=7"])
    with signal_at(6), pytest.raises(Stopped):  # the last step, within the second epoch
        run(tmp_path / "cut", recipe)
    with pytest.raises(UsageError, match="has ended within an epoch"):
        resume(tmp_path / "cut", settings=["schedule.iterations=12"])


def test_only_the_torchrun_that_began_a_run_goes_on_unasked(tmp_path, monkeypatch, whole):
    shutil.copytree(whole().path, tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "ours")
    with pytest.raises(UsageError, match="there is a run in it already"):
        run(tmp_path / "run", of_length(15))
    record = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps(record | {"launch": "ours"}))
    assert run(tmp_path / "run", of_length(15)).results == record["results"]


def test_without_an_installed_package(tmp_path, monkeypatch):
    """The sources alone are enough, as on a borrowed machine."""

    def missing(name):
        if name == "resnets":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(resnets.machine.environment, "version", missing)
    run(tmp_path / "run", load_recipe(RECIPE, ["schedule.iterations=1"]))


def test_a_damaged_state_falls_back_to_the_one_before(tmp_path, capsys, whole):
    with signal_at(7), pytest.raises(Stopped):
        run(tmp_path / "run")
    after, before = RunFolder(tmp_path / "run").states()
    assert (after.name, before.name) == ("step-00000008.safetensors", "step-00000005.safetensors")
    content = bytearray(after.read_bytes())
    content[-100] ^= 1
    after.write_bytes(content)
    resumed = resume(tmp_path / "run", quiet=False)
    said = capsys.readouterr().err
    assert "does not have its SHA-256; resumed from the state before it" in said
    assert "resumed after step 5 of 15" in said
    assert resumed.results["test"] == whole().results["test"]


def test_damaged_states_are_refused(tmp_path):
    with signal_at(3), pytest.raises(Stopped):
        run(tmp_path / "run")
    state = newest(tmp_path / "run")
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="missing or damaged"):
        resume(tmp_path / "run")


def test_a_non_finite_loss_stops_before_the_update(tmp_path):
    steps, seen = itertools.count(), []

    def poison(module, images):
        if isinstance(module, ResNet) and module.training and next(steps) == 6:
            seen.extend((module, module.fc.weight.clone()))
            return images[0] * float("nan")
        return None

    handle = register_module_forward_pre_hook(poison)
    try:
        with pytest.raises(NonFiniteError, match=r"the loss is nan at step 6 \(epoch 2, batch 2"):
            run(tmp_path / "run")
    finally:
        handle.remove()
    module, weight = seen
    assert torch.equal(module.fc.weight, weight)
    details = json.loads((tmp_path / "run/nonfinite.json").read_text())
    assert details["step"] == 6
    assert len(details["samples"]) == 8
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"
    healthy = load_file(newest(tmp_path / "run"))
    assert all(t.isfinite().all() for t in healthy.values())


def test_a_run_is_never_overwritten_by_accident(tmp_path):
    run(tmp_path / "run", load_recipe(RECIPE, ["schedule.iterations=1"]))
    with pytest.raises(UsageError, match="there is a run in it already") as caught:
        run(tmp_path / "run")
    assert "--overwrite" in caught.value.hint
    (tmp_path / "run/notes.txt").write_text("mine")
    run(tmp_path / "run", load_recipe(RECIPE, ["schedule.iterations=2"]), overwrite=True)
    assert (tmp_path / "run/notes.txt").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="not empty and not a run"):
        run(tmp_path / "other", overwrite=True)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        run(tmp_path / "file")
    with pytest.raises(ResourceError, match="cannot be made"):
        run(tmp_path / "file" / "run")


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    run(tmp_path / "run", load_recipe(RECIPE, ["schedule.iterations=1"]))
    assert not (tmp_path / "run/tensorboard").exists()
