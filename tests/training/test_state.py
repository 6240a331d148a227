"""The state of a run: nothing is missing from it, nothing in it is idle, and it is plain data."""

import json
import os
import shutil
import signal
from dataclasses import replace
from functools import cache, partial
from math import cos, pi
from pathlib import Path

import pytest
import runs
import torch
from forks import forked
from runs import NARROW, left, run, state, watch
from torch.amp import GradScaler

from resnets.errors import CheckpointError, DataError, Stopped
from resnets.run_folder.directory import RunFolder
from resnets.training import schedule
from resnets.training.loop import Loop
from resnets.weights.tensors import write_tensors

STEPS, STOP = 12, 8  # epochs of three steps: within the third
SGD = ("schedule.epochs=4", "schedule.warmup_until_error=0.99")
ADAM = ("optimizer.kind=adam", "optimizer.nesterov=false", "optimizer.lr=0.001")
LAMB = ("optimizer.kind=lamb", "loss=binary_cross_entropy", "ema_every=2", "ema_form=timm")
STILL = ("finetune.batch_norm=keep_statistics", "precise_batch_norm=0")  # but for the rate
KINDS = {
    "sgd": SGD,
    "adam": (*SGD, *ADAM),
    "lamb": (*SGD, *ADAM[1:], *LAMB),
    "patient": (*SGD, "schedule.plateau_patience=2"),
    "even": (*SGD, *STILL, "optimizer.lr=1e-9"),  # no epoch is better than the first
    "warming": ("schedule.epochs=4", "schedule.warmup_until_error=0.6"),
    "cold": ("schedule.epochs=4", "schedule.warmup_until_error=0.3"),
    "float16": (*SGD, "precision=float16"),
    "hopeless": (*SGD, *STILL, "optimizer.lr=1e-9", "schedule.patience=2"),  # three epochs
    "slow": (*SGD, *STILL, "optimizer.lr=1e-4", "schedule.patience=1"),  # at lower losses
    "soup": (*SGD, "soup=3", "ema=0", "selection=last"),
}


def sitting(out: Path, kind: str, stop: int | None = None, **options) -> None:
    """Run in this process, which must be a fork, and stop it by a signal after so many steps."""
    torch.amp.GradScaler = partial(GradScaler, init_scale=1e30, backoff_factor=1e-10)
    schedule.MIN_DELTA = 100  # no held-out loss counts as lower than the first
    steps = []

    def reached(name: str) -> None:
        steps.extend([name] if name == "step" else [])
        if name == "step" and len(steps) == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    watch(out, reached)
    window = 10 if kind in ("warming", "cold") else 3
    run(out, *KINDS[kind], pictures=34, window=window, **options)


def begin(out: Path, kind: str) -> None:
    """Save the state in which a run begins, and stop."""

    def save(self: Loop) -> None:
        self.state.save(self.folder.state_path(0))
        raise Stopped("at the beginning")

    Loop.fit = save
    sitting(out, kind)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folders of an uninterrupted run of a kind, a stopped and a fresh one."""

    @cache
    def make(kind: str) -> tuple[Path, Path, Path]:
        folder = tmp_path_factory.mktemp(kind)
        whole, stopped, fresh = (folder / name for name in ("whole", "stopped", "fresh"))
        assert forked(sitting, whole, kind) is None
        assert isinstance(forked(sitting, stopped, kind, STOP), Stopped)
        assert isinstance(forked(begin, fresh, kind), Stopped)
        return whole, stopped, fresh

    return make


def is_item(item: str, key: str) -> bool:
    """Whether a tensor of the state belongs to an item."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    if item in ("model/parameters", "model/buffers"):
        return key.startswith("model/") and key.endswith(buffers) == (item == "model/buffers")
    return key.startswith(item)


def fresh_items(items: tuple[str, ...], tensors, values, fresh: Path) -> dict[str, torch.Tensor]:
    """Put back into ``values`` what a run began with; return the tensors with the same done."""
    first_tensors, first_values = state(fresh)
    for item in items:
        if "/" in item:
            forgotten = {key: tensor for key, tensor in tensors.items() if is_item(item, key)}
            assert forgotten
            began = {key: tensor for key, tensor in first_tensors.items() if is_item(item, key)}
            if item.startswith("optimizer/"):  # which makes these in its first step
                began = {key: torch.zeros_like(tensor) for key, tensor in forgotten.items()}
            tensors = {k: t for k, t in tensors.items() if k not in forgotten} | began
        else:
            *path, key = item.split(".")
            at, first = values, first_values
            for part in path:
                at, first = at[part], first[part]
            assert at[key] != first[key]
            at[key] = first[key]
    return tensors


def goes_on_without(items: tuple[str, ...], kind: str, made, out: Path) -> dict:
    """Let a run that has forgotten some items come to its end, and return what it leaves."""
    _, stopped, fresh = made(kind)
    shutil.copytree(stopped, out)
    tensors, values = state(out)
    tensors = fresh_items(items, tensors, values, fresh)
    write_tensors(RunFolder(out).states()[0], tensors, {"state": json.dumps(values)})
    assert forked(partial(sitting, resume="auto"), out, kind) is None
    return left(out)


SOME = [
    ("sgd", "model/parameters"),
    ("sgd", "model/buffers"),
    ("sgd", "optimizer/"),
    ("sgd", "average/"),
    ("sgd", "ledger.link"),
]
OTHERS = [
    ("sgd", "rate.scale"),
    ("sgd", "step"),
    ("sgd", "metrics"),
    ("sgd", "ledger.lines"),
    ("sgd", "ledger.samples"),
    ("sgd", "epoch.samples"),
    ("sgd", "epoch.loss"),
    ("sgd", "epoch.correct"),
    ("sgd", "rate.warm"),
    ("sgd", "rate.warm_steps"),
    ("sgd", "rate.best"),
    ("patient", "rate.waited"),
    ("warming", "rate.steps"),
    ("warming", "rate.correct"),
    ("cold", "rate.samples"),
    ("even", "best"),
    ("adam", "optimizer/exp_avg/"),
    ("adam", "optimizer/exp_avg_sq/"),
    ("adam", "optimizer/step/"),
    ("lamb", "average/"),
    ("lamb", "optimizer/exp_avg/"),
    ("lamb", "optimizer/exp_avg_sq/"),
    ("lamb", "optimizer/step/"),
    ("hopeless", "patience.waited"),
    ("hopeless", "patience.accuracy"),
    ("slow", "patience.loss"),
    ("soup", "soup/"),
    ("float16", "scaler"),
    ("float16", "skipped"),
]


@pytest.mark.parametrize(
    ("kind", "item"), SOME + [pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS]
)
def test_no_item_can_be_missing(made, tmp_path, kind, item):
    """A run that has forgotten it ends otherwise."""
    items = ("best", "best/") if item == "best" else (item,)
    found, expected = goes_on_without(items, kind, made, tmp_path / "run"), left(made(kind)[0])
    seen = ("weights", "metrics", "ledger", "results")
    assert {key: found[key] for key in seen} != {key: expected[key] for key in seen}


@pytest.mark.parametrize(
    "kind", ["sgd", *(pytest.param(k, marks=pytest.mark.slow) for k in KINDS if k != "sgd")]
)
def test_with_all_items_it_ends_the_same(made, tmp_path, kind):
    """Written anew by the same means as the states that lack an item."""
    assert goes_on_without((), kind, made, tmp_path / "run") == left(made(kind)[0])


def leaves(values: dict, prefix: str = "") -> set[str]:
    parts = (
        leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
        for key, value in values.items()
    )
    return set().union(*parts)


def test_every_item_is_among_these(made):
    """What the state holds by the means of safetensors and json alone."""
    tensors, values = state(made("sgd")[1])
    del values["identity"]
    tested = {item for _, item in SOME + OTHERS}
    assert leaves(values) == {item for item in tested if "/" not in item} | DURATIONS
    parts = {item for item in tested if "/" in item} | {"best/"}
    assert all(any(is_item(part, key) for part in parts) for key in tensors)


DURATIONS = {"seconds", "epoch.seconds", "epoch.data_seconds"}


def test_durations_add_up_over_the_sittings(made, tmp_path):
    _, stopped, _ = made("sgd")
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    tensors, values = state(out)
    values |= {"seconds": 1e6, "epoch": values["epoch"] | {"seconds": 1e5, "data_seconds": 1e4}}
    write_tensors(RunFolder(out).states()[0], tensors, {"state": json.dumps(values)})
    assert forked(partial(sitting, resume="auto"), out, "sgd") is None
    assert RunFolder(out).read_record().progress.seconds > 1e6
    lines = [json.loads(line) for line in RunFolder(out).metrics.read_text().splitlines()]
    assert [line["seconds"] > 1e6 for line in lines] == [False, False, True, True]
    assert [line["train_seconds"] > 1e5 for line in lines] == [False, False, True, False]
    assert [line["data_seconds"] > 1e4 for line in lines] == [False, False, True, False]


def go_on_otherwise(out: Path, *settings: str, fingerprint: str = "0" * 64, **options) -> None:
    build = runs.tiny_dataset
    runs.tiny_dataset = lambda *a, **k: replace(build(*a, **k), fingerprint=fingerprint)
    run(out, *KINDS["sgd"], *settings, pictures=34, resume="auto", **options)


@pytest.mark.parametrize(
    ("settings", "options", "kind", "difference"),
    [
        (["seed=1"], {}, CheckpointError, "seed: 0 before, 1 now"),
        (["optimizer.lr=0.1"], {}, CheckpointError, "optimizer.lr: 0.05 before, 0.1 now"),
        ([], {"fingerprint": "f" * 64}, DataError, "the images or labels have changed"),
        (
            ["ema=0.5"],
            {"fingerprint": "f" * 64, "model": replace(NARROW, widths=(8, 8, 16))},
            CheckpointError,
            "ema: 0.9 before, 0.5 now; model.widths: [4, 8, 16] before, [8, 8, 16] now; "
            "the images or labels have changed",
        ),
    ],
)
def test_another_run_is_refused(made, tmp_path, settings, options, kind, difference):
    out = tmp_path / "run"
    shutil.copytree(made("sgd")[1], out)
    before = RunFolder(out).states()[0].read_bytes()
    error = forked(partial(go_on_otherwise, **options), out, *settings)
    assert type(error) is kind
    assert difference in error.message
    assert RunFolder(out).states()[0].read_bytes() == before


def test_the_schedule_does_not_count_skipped_steps(made):
    """The first three scales, 1e30, 1e20 and 1e10, are beyond float16."""
    whole, stopped, fresh = made("float16")
    assert state(fresh)[1]["scaler"]["scale"] == 1e30
    for folder in (stopped, whole):
        assert state(folder)[1]["skipped"] == 3
        assert state(folder)[1]["scaler"]["scale"] == 1
        assert state(folder)[1]["rate"]["warm_steps"] == 3  # the next three
    lines = [json.loads(line) for line in RunFolder(whole).metrics.read_text().splitlines()]
    scales = [1, 1, 0.5, 0.25]  # what the plateau multiplies the rate by
    # The warm-up, then half a cosine over the steps that would be left.
    rates = [0.1, 0.1, *(0.5 * (1 + cos(pi * done / 9)) for done in (2, 5))]
    expected = [0.05 * scale * rate for scale, rate in zip(scales, rates, strict=True)]
    assert [line["lr"] for line in lines] == pytest.approx(expected, rel=1e-12)
