"""Small data sets and runs that many tests share."""

import os
import re
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from datetime import date
from itertools import count
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_pre_hook

from every_model import of_the_day
from resnets import cli
from resnets.data.dataset import Dataset, MemoryImages, whole
from resnets.data.preprocess import Preprocess

_memory_disk = Path("/dev/shm")  # a small run waits for a disk a third of its time
if (
    _memory_disk.is_dir()
    and disk_usage(_memory_disk).free > 4 << 30
    and not os.statvfs(_memory_disk).f_flag & os.ST_NOEXEC
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_memory_disk))
if "RESNETS_CACHE" not in os.environ:  # what is remembered of images stays out of the user's
    _cache = TemporaryDirectory(
        prefix="resnets-cache-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")
    )
    os.environ["RESNETS_CACHE"] = _cache.name

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
if "PYTEST_XDIST_WORKER" in os.environ:  # what tests start has one core, too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiled once, a module is loaded by every process that tests start, and by the next session.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
settings.register_profile(
    "shared machine",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("shared machine")


def pytest_addoption(parser):
    parser.addoption(
        "--models-of",
        type=date.fromisoformat,
        metavar="DATE",
        help="run tests of the whole zoo on a few models of each family, which change by the day",
    )


def pytest_report_header(config):
    day = config.getoption("models_of")
    return f"models of {day}: {', '.join(of_the_day(day))}" if day else None


def pytest_collection_modifyitems(config, items):
    day = config.getoption("models_of")
    if day:
        chosen = of_the_day(day)
        models = {item: mark.args[0] for item in items if (mark := item.get_closest_marker("zoo"))}
        others = [item for item, name in models.items() if name not in chosen]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if models.get(item, chosen[0]) in chosen]


def coloured(label: int, number: int, side: int = 40) -> Image.Image:
    """A noisy image whose dominant colour is its class."""
    noise = np.random.default_rng(1000 * label + number).integers(0, 90, (side, side, 3))
    noise[:, :, label % 3] += 120
    return Image.fromarray(noise.astype(np.uint8))


def scramble(model: torch.nn.Module) -> torch.nn.Module:
    """Give norms, biases and statistics values that matter, and return the model."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1)
    return model


def resize_crop(image: Image.Image, resize: int, size: int) -> np.ndarray:
    """The pixels (H, W, C) that a model sees of an image, before they are normalised."""
    channels = len(image.getbands())
    preprocess = Preprocess(channels, resize, size, (0.0,) * channels, (1.0,) * channels)
    return (255 * preprocess(image)[0]).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder of images: three classes that their colours tell apart, ten of each."""
    for label, name in enumerate(["apple", "basil", "ceramic"]):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(10):
            coloured(label, number).save(folder / f"{number}.png")
    return tmp_path / "photos"


def tiny_dataset(train: int = 50, test: int = 20, side: int = 8) -> Dataset:
    """Images of noise with a bright half that is the class: learned in seconds."""

    def part(count: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 2
        pixels = torch.randint(0, 100, (count, side, side, 3), generator=generator)
        pixels[:, : side // 2] += 100 * (1 - labels[:, None, None, None])
        pixels[:, side // 2 :] += 100 * labels[:, None, None, None]
        return whole(MemoryImages(pixels.byte()), labels)

    return Dataset("tiny", ("top", "bottom"), part(train, 0), None, part(test, 1), "0" * 64, False)


def several_dataset(train: int = 48, test: int = 21, side: int = 12) -> Dataset:
    """The same where the upper half, the lower one and the whole in red are each a class."""

    def part(count: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        targets = torch.rand(count, 3, generator=generator) < torch.tensor([0.5, 0.3, 0.2])
        pixels = torch.randint(0, 100, (count, side, side, 3), generator=generator)
        upper, lower, red = (60 * column[:, None, None] for column in targets.T)
        pixels[:, : side // 2] += upper[..., None]
        pixels[:, side // 2 :] += lower[..., None]
        pixels[..., 0] += red
        return whole(MemoryImages(pixels.byte()), targets)

    classes = ("upper", "lower", "red")
    return Dataset("several", classes, part(train, 0), None, part(test, 1), "1" * 64, False)


@contextmanager
def largest_file(size: int):
    """Meanwhile no file can grow beyond ``size`` bytes: a disk that is full there, for all."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def killed_at(moment: int, folder: Path, act: Callable[[], object]) -> bool:
    """Act in a process of its own, killed there among what it does to files; whether it was."""
    events = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the fork computes nothing
        process = os.fork()
    if not process:
        done = count()

        def watch(event: str, arguments: tuple) -> None:
            if event in events and str(folder) in str(arguments[0]) and next(done) >= moment:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


@contextmanager
def at_step(number: int, act):
    """Within a step, counted from 0 over all runs and before any weight has changed, act."""
    steps = count()
    handle = register_optimizer_step_pre_hook(lambda *_: act() if next(steps) == number else None)
    try:
        yield
    finally:
        handle.remove()


def signal_at(step: int, number: signal.Signals = signal.SIGTERM):
    """Send this process a signal within a step, as a scheduler or a person would."""
    return at_step(step, lambda: os.kill(os.getpid(), number))


@pytest.fixture
def resnets(capsys):
    """Run the command line in this process; return (exit code, stdout, stderr)."""

    def run(*words) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main([*map(str, words)])
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


@pytest.fixture
def failing(resnets, monkeypatch):
    """Run a command in which an error comes up, of whatever kind; return as `resnets` does."""

    def run(error: BaseException) -> tuple[int, str, str]:
        def fail(*_):
            raise error

        monkeypatch.setattr(cli.models, "list_models", fail)
        return resnets("models")

    return run


STATUS = Path("/proc/self/status")


def _memory(kind: str) -> int:
    return 1024 * int(re.search(rf"{kind}:\s*(\d+) kB", STATUS.read_text())[1])


@pytest.fixture
def peak_memory():
    """Give a context that fails when the process grows by ``below`` bytes or more within it."""

    @contextmanager
    def limit(below: int):
        if not STATUS.exists():
            pytest.skip("the peak of resident memory is known on Linux only")
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak until now
        before = _memory("VmRSS")
        yield
        assert _memory("VmHWM") - before < below

    return limit
