"""A run that is killed, stopped or fails at any moment goes on, and ends as if it had not been."""

import os
import random
import resource
import signal
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from forks import forked
from runs import STEPS, left, run, state, watch

from resnets.errors import ResourceError, Stopped
from resnets.run_folder.directory import RunFolder

NESTEROV = (("optimizer.nesterov=true",), 0)  # minutes between states: one after every step
CAFFE = (("optimizer.nesterov=false", "optimizer.momentum_form=caffe"), 10)


def sitting(out: Path, kind=NESTEROV, moment: int | None = None, act=None, **options) -> list[str]:
    """Run, act at a moment, and return the names of all moments."""
    names = []

    def reached(name: str) -> None:
        names.append(name)
        if len(names) - 1 == moment:
            act()

    watch(out, reached)
    settings, save_minutes = kind
    run(out, *settings, save_minutes=save_minutes, **options)
    return names


@cache
def uninterrupted(kind=NESTEROV) -> tuple[dict, list[str]]:
    """Return what a run leaves, and its moments."""
    with TemporaryDirectory() as folder:
        moments = forked(sitting, Path(folder) / "run", kind)
        return left(Path(folder) / "run"), moments


def goes_on(out: Path, kind=NESTEROV) -> None:
    """Let the run come to its end, which must be that of an uninterrupted one."""
    found = forked(partial(sitting, resume="auto"), out, kind)
    assert isinstance(found, list), found
    assert left(out) == uninterrupted(kind)[0]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk() -> None:
    """Let no file grow beyond what a record needs, and a state exceeds."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def crash() -> None:
    raise RuntimeError("shapes do not match")


def ask(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def steps_of(kind) -> list[int]:
    return [i for i, name in enumerate(uninterrupted(kind)[1]) if name == "step"]


def killed_at(moments: Iterable[int], folder: Path, kind=NESTEROV) -> None:
    for moment in moments:
        out = folder / f"{moment}"
        assert forked(sitting, out, kind, moment, kill) is signal.SIGKILL
        goes_on(out, kind)


def test_moments_are_in_all_that_a_run_does():
    moments = uninterrupted()[1]
    assert moments.count("step") == STEPS
    assert moments.count("os.rename") >= 3 * STEPS  # state, metrics, ledger
    assert moments.count("write") > 2 * STEPS  # no metrics in the first epoch
    assert moments.count("os.remove") == STEPS - 2  # states
    assert {"open", "os.mkdir", "fcntl.flock"} <= set(moments)


def test_killed_at_some_moments(tmp_path):
    moments = range(len(uninterrupted()[1]))
    killed_at(random.Random(0).sample(moments, 4), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NESTEROV, CAFFE], ids=["nesterov", "caffe"])
def test_killed_at_every_moment(tmp_path, kind):
    moments = uninterrupted(kind)[1]
    print(f"{len(moments)} moments")
    killed_at(range(len(moments)), tmp_path, kind)


def slow(*cases) -> list:
    return [
        pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.slow)
        for case in cases
    ]


NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SOME = [(0, signal.SIGINT), (6, signal.SIGUSR1), (9, signal.SIGTERM)]
OTHERS = [(k, n) for k in range(STEPS) for n in NUMBERS if (k, n) not in SOME]


@pytest.mark.parametrize(("step", "number"), SOME + slow(*OTHERS))
def test_stopped_by_a_signal(tmp_path, step, number):
    out = tmp_path / "run"
    found = forked(sitting, out, CAFFE, steps_of(CAFFE)[step], partial(ask, number))
    assert isinstance(found, Stopped)
    assert found.message == f"stopped and saved at step {step + 1} of {STEPS}"
    assert found.exit_code == (130 if number == signal.SIGINT else 75)
    assert RunFolder(out).read_record().status == "stopped"
    assert state(out)[1]["step"] == step + 1
    goes_on(out, CAFFE)


@pytest.mark.parametrize("step", [3, *slow(0, 4, 9)])
def test_a_disk_that_fills_up(tmp_path, step):
    out = tmp_path / "run"
    error = forked(sitting, out, NESTEROV, steps_of(NESTEROV)[step], fill_the_disk)
    assert isinstance(error, ResourceError)
    assert error.exit_code == 7
    assert f"step-{step + 1:08}.safetensors: cannot be written: File too large" in error.message
    assert "20,000 bytes allowed" in error.message
    states = RunFolder(out).states()
    assert [path.name for path in states] == [
        f"step-{k:08}.safetensors" for k in (step, step - 1) if k > 0
    ]
    assert not list(out.rglob(".*.tmp"))
    assert RunFolder(out).read_record().status == "failed"
    goes_on(out)


@pytest.mark.parametrize("step", [7, *slow(0, 4, 9)])
def test_an_error_in_a_step(tmp_path, step):
    out = tmp_path / "run"
    error = forked(sitting, out, CAFFE, steps_of(CAFFE)[step], crash)
    assert type(error) is RuntimeError
    assert RunFolder(out).read_record().status == "failed"
    goes_on(out, CAFFE)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_one_interruption_after_another(tmp_path, seed):
    """Until the run comes to its end before the next one."""
    choice = random.Random(seed)
    acts = [kill, kill, crash, fill_the_disk, partial(ask, signal.SIGTERM)]
    out, ends = tmp_path / "run", []
    while not (ends and isinstance(ends[-1], list)):
        moment, act = choice.randrange(40), choice.choice(acts)
        ends.append(forked(partial(sitting, resume="auto"), out, NESTEROV, moment, act))
        assert len(ends) < 40
    assert len(ends) > 2
    goes_on(out)
