"""Train a model on a data set into a run folder: what stands behind `resnets train`."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from resnets.create import create_model, open_model
from resnets.data import NAMES, open_dataset
from resnets.data.augment import Augment
from resnets.data.dataset import Dataset, Split
from resnets.data.holdout import hold_out
from resnets.data.preprocess import Preprocess, measure, stored_side
from resnets.data.samples import choose_split, data_url
from resnets.errors import CheckpointError, DataError, ResourceError, Stopped, UsageError
from resnets.evaluation import Evaluation, evaluate
from resnets.files import write_json, write_text
from resnets.nn import ResNet
from resnets.profiling import profile
from resnets.report import write_report
from resnets.training.environment import environment
from resnets.training.folder import RunFolder
from resnets.training.loop import Feed, fit, total_steps
from resnets.training.progress import RunProgress
from resnets.training.recipe import Recipe, load_recipe
from resnets.training.state import RunState
from resnets.training.step import build_optimizer
from resnets.training.stop import StopRequest
from resnets.weights import passport
from resnets.zoo import get_spec

MISTAKES = 24  # pictures kept for the report


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its results, as in run.json."""

    path: Path
    results: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page to look at."""
        return RunFolder(self.path).report


def train(
    data: str | Path | None = None,
    *,
    model: str = "resnet18",
    recipe: str | Path | Recipe = "default",
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    root: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Run:
    """Train ``model`` on ``data`` by ``recipe`` and leave everything in the run folder ``out``.

    ``data`` is digits, cifar10, cifar100 or a folder of pictures; ``root`` is where CIFAR's files
    are. ``settings`` are overrides such as ``optimizer.lr=0.05``. ``resume`` is a run folder to go
    on with, which then says everything else, or "auto": go on where ``out`` holds a run.

    Raises UsageError, DataError, CheckpointError, ResourceError and NonFiniteError as they are met,
    and Stopped, its state saved, when a signal asked the run to stop.
    """
    if resume is not None and str(resume) != "auto":
        folder = RunFolder(Path(resume))
        record = folder.read()
        data = data if data is not None else record["data"]["source"]
        root = root if root is not None else record["data"]["root"]
        model, recipe = record["model"]["name"], folder.recipe
    else:
        if data is None:
            raise UsageError("there is no data to train on", hint="give a data set or a folder")
        if not isinstance(recipe, Recipe):
            recipe = load_recipe(recipe, settings)
            settings = ()
        folder = RunFolder(Path(out) if out is not None else _default_out(data, model, recipe))
        record = folder.read() if resume is not None and folder.record.exists() else {}
        if record.get("status") == "finished":
            _check_same(record, folder, str(data), model, recipe)
    if record.get("status") == "finished":
        return Run(folder.path, record["results"])
    recipe = load_recipe(recipe, settings)
    return Experiment(data, model, recipe, folder, root, device).run(
        # A run that was killed before its first state starts again.
        resuming=bool(record) and folder.state.exists(),
        overwrite=overwrite or bool(record),
        progress=RunProgress(quiet=quiet),
    )


class Experiment:
    """The parts of a run, from opening the data to the last file."""

    def __init__(
        self,
        data: str | Path,
        model: str,
        recipe: Recipe,
        folder: RunFolder,
        root: str | Path | None,
        device: str,
    ) -> None:
        self.device = choose_device(device)
        spec = get_spec(model)
        named = isinstance(data, str) and data in NAMES
        self.dataset = open_dataset(
            data,
            root=Path(root) if root is not None else None,
            side=stored_side(recipe.data.image_size or spec.image_size),
            broken=recipe.data.broken,
        )
        if recipe.augment.mirror == "auto":
            augment = recipe.augment.model_copy(update={"mirror": self.dataset.mirror})
            recipe = recipe.model_copy(update={"augment": augment})
        self.recipe, self.folder = recipe, folder
        # A folder that is called like a data set is told from it by its "./".
        self.source = f"./{data}" if not named and str(data) in NAMES else str(data)
        self.root = None if root is None else str(root)
        self.train, self.validation = _parts(self.dataset, recipe)
        channels, side, _ = self.train.images.shape
        size = recipe.data.image_size or (side if named else spec.image_size)
        if size > side:
            raise UsageError(
                f"data.image_size is {size}, but {self.dataset.name} has pictures of {side}",
                hint="leave it out or lower it",
            )
        self.spec = replace(
            spec, num_classes=len(self.dataset.classes), in_channels=channels, image_size=size
        )
        self.preprocess = measure(self.train, size, recipe.data.normalize)

    def run(self, *, resuming: bool, overwrite: bool, progress: RunProgress) -> Run:
        """Train, evaluate and write everything."""
        recipe, folder = self.recipe, self.folder
        model = self.build()
        state = RunState(model, build_optimizer(model, recipe.optimizer), self._identity())
        if resuming:
            state.load(folder.state)
            record = folder.read()
        else:
            folder.create(overwrite=overwrite)
            record = self._record()
        folder.write_record(record | {"status": "running"})
        write_text(folder.recipe, recipe.to_yaml())
        write_json(folder.data, {"skipped": [asdict(s) for s in self.dataset.skipped]})
        for line in self._opening():
            progress.say(line)
        stop = StopRequest()
        try:
            with progress, stop:
                fit(state, self.feed(), self.validation, recipe, folder, progress, stop)
            record["results"] = self._results(state)
            self._save(model, record)
            record["status"] = "finished"
        except Stopped as stopped:
            record["status"] = "stopped"
            stopped.exit_code = stop.exit_code
            raise
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            record["status"] = "stopped" if interrupted else "failed"
            raise
        finally:
            record["progress"] = self._position(state)
            folder.write_record(record)
        write_report([folder.path])
        return Run(folder.path, record["results"])

    def build(self) -> ResNet:
        """Return the network with the recipe's seed, in training layout on the device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            model = create_model(self.spec)
        model.preprocess, model.classes = self.preprocess, self.dataset.classes
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def feed(self) -> Feed:
        """Return the training split as the recipe augments and normalises it."""
        augment = self.recipe.augment
        black = (0,) * self.spec.in_channels
        mean = tuple(round(255 * value) for value in self.preprocess.channel_mean)
        return Feed(
            split=self.train,
            augment=Augment(
                seed=self.recipe.seed,
                size=self.preprocess.size,
                padding=augment.padding,
                fill=black if augment.fill == "black" else mean,
                reflect=augment.fill == "reflect",
                mirror=bool(augment.mirror),
                cutout=augment.cutout,
            ),
            preprocess=self.preprocess,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            device=self.device,
        )

    def _identity(self) -> dict[str, Any]:
        """Return what must not change when a run goes on, flat, so that a change can be named."""
        recipe = self.recipe.model_dump(mode="json", exclude={"name", "source"})
        flat = {
            f"{section}.{key}" if key else section: value
            for section, values in recipe.items()
            for key, value in (values.items() if isinstance(values, dict) else [("", values)])
        }
        return {**flat, "data": self.dataset.fingerprint, "model": self.spec.to_dict()}

    def _results(self, state: RunState) -> dict[str, Any]:
        samples, seconds, data_seconds = (
            sum(line[key] for line in state.metrics)
            for key in ("samples", "train_seconds", "data_seconds")
        )
        results: dict[str, Any] = {
            "train": {
                "images_per_second": round(samples / seconds, 1),
                "seconds": round(seconds, 1),
                "data_seconds": round(data_seconds, 1),
            },
            "validation": None,
            "test": None,
        }
        for name, split in (("validation", self.validation), ("test", self.dataset.test)):
            if split is not None and len(split):
                evaluation = evaluate(
                    state.model, split, self.preprocess, batch_size=self.recipe.batch_size
                )
                results[name] = evaluation.to_dict()
                # The last one stands: the test part where there is one, else the held-out part.
                write_json(self.folder.mistakes, self._mistakes(evaluation, split))
        return results

    def _mistakes(self, evaluation: Evaluation, split: Split) -> list[dict[str, Any]]:
        classes = self.dataset.classes
        return [
            {
                "sample": int(split.ids[i]),
                "label": classes[int(evaluation.labels[i])],
                "predicted": classes[int(evaluation.predicted[i])],
                "confidence": round(float(evaluation.confidence[i]), 6),
                "picture": data_url(split, i),
            }
            for i in evaluation.mistakes(MISTAKES)
        ]

    def _save(self, model: ResNet, record: dict[str, Any]) -> None:
        made = {key: record[key] for key in ("name", "recipe", "seed", "data", "environment")}
        scores = {
            part: score and {k: v for k, v in score.items() if k != "confusion"}
            for part, score in record["results"].items()
        }
        travel = passport.Passport(
            spec=self.spec,
            preprocess=self.preprocess.to_dict(),
            classes=list(self.dataset.classes),
            made={**made, "results": scores},
        )
        tensors = {key: tensor.cpu() for key, tensor in model.state_dict().items()}
        passport.save(self.folder.weights, tensors, travel)

    def _position(self, state: RunState) -> dict[str, Any]:
        steps = total_steps(self.recipe, len(self.train))
        batches = len(self.feed().indices(0))
        return {
            "step": state.step,
            "steps": steps,
            "epoch": round(state.step / batches, 4),
            "epochs": round(steps / batches, 4),
            "seconds": round(state.seconds, 3),
        }

    def _record(self) -> dict[str, Any]:
        cost = profile(self.spec).to_dict()
        data = {
            "name": self.dataset.name,
            "source": self.source,
            "root": self.root,
            "fingerprint": self.dataset.fingerprint,
            "classes": list(self.dataset.classes),
            "image_shape": [self.spec.in_channels, self.preprocess.size, self.preprocess.size],
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.dataset.test or ()),
            "skipped": len(self.dataset.skipped),
        }
        return {
            "schema_version": 1,
            "name": self.folder.path.name,
            "command": self._command(),
            "status": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": self.recipe.seed,
            "model": {
                **{k: cost[k] for k in ("parameters", "macs", "receptive_field", "stages")},
                "name": self.spec.name,
                "description": self.spec.variant,
                "spec": self.spec.to_dict(),
            },
            "data": data,
            "recipe": self.recipe.name,
            "environment": environment(self.device),
        }

    def _command(self) -> str:
        """Return the command that repeats the run; every setting stands in recipe.yaml."""
        words = ["resnets", "train", self.source, "--model", self.spec.name]
        words += ["--recipe", str(self.folder.recipe)]
        return shlex.join(words + (["--root", self.root] if self.root else []))

    def _opening(self) -> list[str]:
        cost = profile(self.spec)
        parts = [f"{len(self.dataset.classes)} classes", f"{len(self.train):,} train"]
        parts += [f"{len(self.validation):,} held out"] if len(self.validation) else []
        parts += [f"{len(self.dataset.test):,} test"] if self.dataset.test else []
        if self.dataset.skipped:
            parts.append(f"{len(self.dataset.skipped)} left out, listed in {self.folder.data}")
        where = f"{torch.get_num_threads()} threads" if self.device.type == "cpu" else "one GPU"
        return [
            f"{self.source}: {', '.join(parts)}",
            f"{self.spec.name} ({self.spec.variant}; {cost.parameters / 1e6:.2f} M parameters, "
            f"{cost.macs / 1e9:.3g} G multiply-adds at {cost.image_size})   {where}, channels-last",
        ]


def _check_same(
    record: dict[str, Any], folder: RunFolder, data: str, model: str, recipe: Recipe
) -> None:
    """Raise UsageError when a finished run is not the one that is asked for."""
    done = load_recipe(folder.recipe)
    if recipe.augment.mirror == "auto":  # recipe.yaml says what it came to
        recipe = recipe.model_copy(
            update={"augment": recipe.augment.model_copy(update={"mirror": done.augment.mirror})}
        )
    if (record["data"]["source"], record["model"]["name"], done) != (data, model, recipe):
        raise UsageError(
            f"{folder.path}: holds a finished run with other data, model or recipe",
            hint="give another --out",
        )


def evaluate_run(
    run: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    root: str | Path | None = None,
    device: str = "auto",
) -> tuple[str, Evaluation]:
    """Return the name of the split and what a trained model answers on it.

    ``split`` is train, validation or test; None means the last of these that the data has. Raises
    CheckpointError when there is no model in ``run`` and DataError when the classes are others.
    """
    model = open_model(run).to(choose_device(device))
    preprocess = model.preprocess
    if not isinstance(preprocess, Preprocess):
        raise CheckpointError(f"{run}: it does not say how pictures are to be preprocessed")
    dataset = open_dataset(
        data,
        root=Path(root) if root is not None else None,
        side=preprocess.resize,
        channels=preprocess.channels,
    )
    if dataset.classes != model.classes:
        raise DataError(
            f"{data}: its classes are {', '.join(dataset.classes[:8])}, the model's are "
            f"{', '.join(model.classes[:8])}",
            hint="evaluate on data with the classes that the model was trained on",
        )
    part, samples = choose_split(dataset, split)
    return part, evaluate(model, samples, preprocess)


def choose_device(device: str) -> torch.device:
    """Return the device of a name; auto is CUDA where there is one. Raises on a missing one."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f'there is no device "{device}"', hint="choose from auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ResourceError("CUDA is not available here", hint="use --device cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _parts(dataset: Dataset, recipe: Recipe) -> tuple[Split, Split]:
    """Return (train, held out): the data set's own validation part, or one made from training."""
    if dataset.validation is not None:
        return dataset.train, dataset.validation
    return hold_out(dataset.train, recipe.data.holdout, recipe.data.split_seed)


def _default_out(data: str | Path, model: str, recipe: Recipe) -> Path:
    parts = [Path(data).resolve().name if str(data) not in NAMES else str(data), model]
    return Path("runs") / "-".join(parts + ([recipe.name] if recipe.name != "default" else []))
