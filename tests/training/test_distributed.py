"""One run in several processes: the same run, which any of them may end and all continue."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import runs
import torch
from forks import forked, launched_together
from runs import left, run, state, timeless, watch
from safetensors.torch import load_file

from resnets import models as create
from resnets.data.preprocess import preprocess_of
from resnets.errors import DataError, Stopped
from resnets.evaluation import network as evaluation
from resnets.machine.processes import PeerLost
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import to_plain

PICTURES = 53  # 43 to train on: five batches of 8 and one of 3; 10 held out, 21 to test
OWN = ("sync_batch_norm=false",)
several = pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def sitting(out: Path, *settings: str, of: int = 0, step: int | None = None, act=None, **options):
    """Run; within a step, counted from 0, process ``of`` acts. Return the results."""
    steps = []

    def reached(name: str) -> None:
        steps.extend([name] if name == "step" else [])
        if name == "step" and len(steps) - 1 == step and rank() == of:
            act()

    watch(out, reached)
    return run(out, "optimizer.nesterov=true", *settings, pictures=PICTURES, **options)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ask() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def fail() -> None:
    raise RuntimeError("shapes do not match")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder of an uninterrupted run in so many processes."""

    @cache
    def make(count: int, *settings: str) -> Path:
        out = tmp_path_factory.mktemp("whole") / "run"
        if count == 1:
            results = [forked(sitting, out, *settings)]
        else:
            results = launched_together(count, sitting, out, *settings)
        recorded = timeless(to_plain(RunFolder(out).read_record().results))
        assert [timeless(found) for found in results] == [recorded] * count
        return out

    return make


def close(one: Path, other: Path) -> None:
    """Demand the same samples, and weights that only rounding tells apart: 1e-5 is 84 ulp.

    In float32, sums over processes are rounded in another order, and few steps let that grow.
    """
    assert left(one)["ledger"] == left(other)["ledger"]
    a, b = (load_file(out / "model.safetensors") for out in (one, other))
    for key in a:
        x, y = a[key].double(), b[key].double()
        assert (x - y).norm() <= 1e-5 * y.norm(), key


FIVE = ("schedule.iterations=5", "optimizer.accumulate=1")  # parts are of each process's own batch


# What recipes of the last years have; LAMB's steps are of one size, however small the gradient.
NEW = ("loss=binary_cross_entropy", "target_threshold=0.2", "data.repeats=3", "ema_every=2")
NEW += ("class_weights=none", "data.sampling=balanced")
NEW += (
    "ema_form=timm",
    "augment.partner=next",
    "optimizer.kind=lamb",
    "optimizer.nesterov=false",
    "optimizer.lr=0.005",
)


@several
@pytest.mark.parametrize("settings", [FIVE, (*FIVE, *NEW)], ids=["usual", "new"])
def test_several_processes_are_one(made, count, settings):
    one, together = made(1, *settings), made(count, *settings)
    close(together, one)
    for part, samples in (("validation", 10), ("test", 21)):
        alone, shared = (
            to_plain(RunFolder(out).read_record().results)[part] for out in (one, together)
        )
        assert shared["samples"] == samples
        assert shared["accuracy"] == alone["accuracy"]
        assert shared["confusion"] == alone["confusion"]
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-5)


TWICE = ("optimizer.accumulate=2",)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [TWICE, (*TWICE, *OWN)], ids=["synchronous", "own"])
def test_a_run_in_two_processes_is_reproducible(made, tmp_path, settings):
    launched_together(2, sitting, tmp_path / "run", *settings)
    assert left(tmp_path / "run") == left(made(2, *settings))


def scores(out: Path) -> dict:
    """Evaluate what a run has saved, in one process."""
    model, dataset = create.open_model(out), runs.tiny_dataset(PICTURES, 21, side=12)
    torch.backends.mkldnn.enabled = False
    return evaluation.evaluate(model, dataset.test, preprocess_of(model), batch_size=8).to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), OWN], ids=["synchronous", "own"])
def test_all_processes_evaluate_the_model_that_is_saved(made, settings):
    settings = (*settings, "precise_batch_norm=0")
    out = made(2, *settings)
    assert forked(scores, out) == to_plain(RunFolder(out).read_record().results.test)


def stopped(out: Path, count: int, *settings: str) -> None:
    """Start a run in so many processes, and ask one of them to stop in the fourth step."""
    found = launched_together(count, partial(sitting, of=1, step=3, act=ask), out, *settings)
    assert all(isinstance(error, Stopped) for error in found)
    assert {error.message.split(" of ")[0] for error in found} == {"stopped and saved at step 4"}
    assert [path.name for path in RunFolder(out).states()] == ["step-00000004.safetensors"]
    assert RunFolder(out).read_record().status == "stopped"


@pytest.mark.parametrize(
    "settings",
    [pytest.param(TWICE, marks=pytest.mark.slow), (*TWICE, *OWN)],
    ids=["synchronous", "own"],
)
def test_a_signal_to_one_stops_all(made, tmp_path, settings):
    out = tmp_path / "run"
    stopped(out, 2, *settings)
    launched_together(2, partial(sitting, resume="auto"), out, *settings)
    assert left(out) == left(made(2, *settings))


def threads_of_gloo(out: Path) -> tuple[list[str], list[str]]:
    """Stop, and return what runs in a step and while the error and its frames are kept."""
    within = []

    def act() -> None:
        within.extend(threads())
        ask()

    try:
        sitting(out, step=3, act=act)
    except Stopped:
        return within, threads()


def threads() -> list[str]:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def test_nothing_of_a_process_group_outlives_a_stopped_run(tmp_path):
    found = launched_together(2, threads_of_gloo, tmp_path / "run")
    assert found[0][0]  # it was there
    assert [after for _, after in found] == [[], []]


@pytest.mark.parametrize(
    ("before", "after"),
    [(2, 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(2, 3), (3, 2), (3, 3)])],
)
def test_another_number_of_processes_goes_on(made, tmp_path, before, after):
    out = tmp_path / "run"
    stopped(out, before, *FIVE)
    again = partial(sitting, resume="auto")
    if after == 1:
        forked(again, out, *FIVE)
    else:
        launched_together(after, again, out, *FIVE)
    close(out, made(1, *FIVE))
    if before == after:
        assert left(out) == left(made(before, *FIVE))


@pytest.mark.parametrize(
    ("of", "step"),
    [(1, 2), *(pytest.param(0, k, marks=pytest.mark.slow) for k in (0, 2, 6))],
)
def test_the_end_of_one_is_the_end_of_all(made, tmp_path, of, step):
    out = tmp_path / "run"
    found = launched_together(2, partial(sitting, of=of, step=step, act=kill), out)
    assert found[of] is signal.SIGKILL
    assert isinstance(found[1 - of], PeerLost)
    launched_together(2, partial(sitting, resume="auto"), out)
    assert left(out) == left(made(2))


@pytest.mark.parametrize("of", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_in_one_stays_what_it_is(made, tmp_path, of):
    out = tmp_path / "run"
    found = launched_together(3, partial(sitting, of=of, step=2, act=fail), out, *FIVE)
    assert [type(error) for error in found].count(PeerLost) == 2
    assert type(found[of]) is RuntimeError
    assert str(found[of]) == "shapes do not match"
    assert RunFolder(out).read_record().status == "failed"


def saves_by_its_own_clock(out: Path, *settings: str):
    """Run where the first process is always due to save, and the second never is."""
    return sitting(out, *settings, save_minutes=0 if rank() == 0 else 60)


def test_processes_save_together_although_their_clocks_differ(made, tmp_path):
    launched_together(2, saves_by_its_own_clock, tmp_path / "run")
    assert left(tmp_path / "run") == left(made(2))


def read_other_data(out: Path) -> None:
    build = runs.tiny_dataset
    fingerprint = f"{rank()}" * 64
    runs.tiny_dataset = lambda *a, **k: replace(build(*a, **k), fingerprint=fingerprint)
    sitting(out)


def test_processes_that_read_different_data_are_refused(tmp_path):
    for error in launched_together(2, read_other_data, tmp_path / "run"):
        assert isinstance(error, DataError)
        assert error.message == "the processes have read different images or labels"
    assert not (tmp_path / "run").exists()


def end_a_child(out: Path) -> list[int]:
    """Fork within a step, as a data set may, and tell the child to end; the run goes on."""
    ends = []

    def act() -> None:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, b"!")  # what comes before Python is ready it forgets
            time.sleep(60)
            os._exit(0)
        os.read(reading, 1)
        os.kill(child, signal.SIGTERM)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    sitting(out, step=1, act=act)
    return ends


def test_a_child_does_not_take_a_signal_for_the_runs(tmp_path):
    assert forked(end_a_child, tmp_path / "run") == [-signal.SIGTERM]
    assert RunFolder(tmp_path / "run").read_record().finished


def lose_the_parent(out: Path) -> None:
    """Start the only process of a run, as torchrun would, and be killed by it in a step."""
    worker = os.fork()
    if worker:
        signal.pause()
    parent = os.getppid()

    def act() -> None:
        os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(0.01)

    try:
        sitting(out, step=3, act=act)
    finally:
        os._exit(0)  # the answer is the parent's to give


def test_a_process_without_its_parent_stops_and_saves(made, tmp_path):
    out = tmp_path / "run"
    assert launched_together(1, lose_the_parent, out) == [signal.SIGKILL]
    assert RunFolder(out).read_record().status == "stopped"
    assert state(out)[1]["step"] == 4
    forked(partial(sitting, resume="auto"), out)
    assert left(out) == left(made(1))


DIGITS = ("train", "digits", "--model", "resnet8", "--set", "schedule.iterations=60")
DIGITS += ("--set", "batch_size=16", "--device", "cpu", "--save-every", "0.0001", "--out")


def torchrun(out: Path, *options: str, resume: bool = False) -> subprocess.Popen:
    """Start a run on digits in two processes, which goes on once if one of them fails."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["--max-restarts", "1", *options, "-m", "resnets", *DIGITS, str(out)]
    words += ["--resume", "auto"] if resume else []
    with (out.parent / f"{out.name}.log").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=log)


def wait_for_a_state(out: Path) -> None:
    for _ in range(6000):
        if len(RunFolder(out).states()) > 1:
            return
        time.sleep(0.1)
    raise TimeoutError((out.parent / f"{out.name}.log").read_text())


def workers(process: subprocess.Popen) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in path.read_text().split()]


def ended(process: subprocess.Popen, out: Path) -> int:
    try:
        return process.wait(1200)
    except subprocess.TimeoutExpired:
        process.kill()
        raise TimeoutError((out.parent / f"{out.name}.log").read_text()) from None


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Return the folder of an uninterrupted run under torchrun."""
    out = tmp_path_factory.mktemp("digits") / "whole"
    assert ended(torchrun(out), out) == 0
    return out


def without_tensorboard(found: dict) -> dict:
    return found | {"files": [name for name in found["files"] if "tfevents" not in name]}


def goes_on_under_torchrun(digits: Path, out: Path) -> None:
    assert ended(torchrun(out, resume=True), out) == 0
    assert without_tensorboard(left(out)) == without_tensorboard(left(digits))


@pytest.mark.slow
@pytest.mark.parametrize("of", [0, 1])
def test_torchrun_starts_them_anew_when_one_is_killed(digits, tmp_path, of):
    out = tmp_path / "run"
    process = torchrun(out)
    wait_for_a_state(out)
    os.kill(workers(process)[of], signal.SIGKILL)
    assert ended(process, out) == 0
    assert len(RunFolder(out).read_record().sessions) == 2
    assert without_tensorboard(left(out)) == without_tensorboard(left(digits))


@pytest.mark.slow
def test_torchrun_passes_signals_on(digits, tmp_path):
    out = tmp_path / "run"
    handled = "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
    process = torchrun(out, handled)
    wait_for_a_state(out)
    process.send_signal(signal.SIGUSR1)
    assert ended(process, out) != 0
    assert RunFolder(out).read_record().status == "stopped"
    goes_on_under_torchrun(digits, out)


@pytest.mark.slow
def test_torchrun_that_is_killed_leaves_a_state(digits, tmp_path):
    out = tmp_path / "run"
    process = torchrun(out)
    wait_for_a_state(out)
    left_behind = workers(process)
    process.kill()
    process.wait()
    while any(Path(f"/proc/{worker}").exists() for worker in left_behind):
        time.sleep(0.1)
    assert RunFolder(out).read_record().status == "stopped"
    goes_on_under_torchrun(digits, out)
