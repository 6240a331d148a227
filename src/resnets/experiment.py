"""Train a model on a data set into a run folder: what stands behind `resnets train`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnets.create import create_model
from resnets.data import NAMES, open_dataset
from resnets.data.augment import Augment
from resnets.data.dataset import Split
from resnets.data.holdout import divide
from resnets.data.preprocess import measure, stored_side
from resnets.data.samples import data_url
from resnets.device import choose_device
from resnets.drawing import draw
from resnets.errors import CheckpointError, Stopped, UsageError
from resnets.evaluation import Evaluation, evaluate
from resnets.files import write_json, write_text
from resnets.profiling import profile
from resnets.report import write_report
from resnets.spec import Spec
from resnets.training.folder import RunFolder
from resnets.training.loop import Feed, fit, total_steps
from resnets.training.progress import RunProgress
from resnets.training.recipe import Recipe, load_recipe
from resnets.training.record import new_record, opening_lines
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
    model: str | Spec | None = None,
    recipe: str | Path | Recipe | None = None,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    root: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Run:
    """Train ``model`` (resnet18) on ``data`` by ``recipe`` (default) into the run folder ``out``.

    ``data`` is digits, cifar10, cifar100 or a folder of pictures; ``root`` is where CIFAR's files
    are. ``settings`` are overrides such as ``optimizer.lr=0.05``. ``resume`` is a run folder to go
    on with, which says everything else, or "auto": go on where ``out`` holds this very run, and
    start it otherwise.

    Raises UsageError, DataError, CheckpointError, ResourceError and NonFiniteError as they are met,
    and Stopped, its state saved, when a signal asked the run to stop.
    """
    progress = RunProgress(quiet=quiet)
    settings = [settings] if isinstance(settings, str) else settings
    if resume is not None and str(resume) != "auto":
        if model or recipe or settings or out or overwrite:
            raise UsageError(
                f"{resume} says with what it goes on: model, recipe, settings and folder",
                hint="leave these options out, or start another run with --out",
            )
        folder = RunFolder(Path(resume))
        record = folder.read()
        if record.get("status") == "finished":
            return Run(folder.path, record["results"])
        data = data if data is not None else record["data"]["source"]
        root = root if root is not None else record["data"]["root"]
        spec, recipe = Spec.from_dict(record["model"]["spec"]), load_recipe(folder.recipe)
        return Experiment(data, spec, recipe, folder, root, device, progress).go_on()
    if data is None:
        raise UsageError("there is no data to train on", hint="give a data set or a folder")
    model, recipe = model or "resnet18", load_recipe(recipe or "default", settings)
    name = model if isinstance(model, str) else model.name
    folder = RunFolder(Path(out) if out is not None else _default_out(data, name, recipe))
    experiment = Experiment(data, model, recipe, folder, root, device, progress)
    if resume is not None and folder.record.exists():
        return experiment.go_on()
    return experiment.start(overwrite=overwrite)


class Experiment:
    """The parts of a run, from opening the data to the last file."""

    def __init__(
        self,
        data: str | Path,
        model: str | Spec,
        recipe: Recipe,
        folder: RunFolder,
        root: str | Path | None,
        device: str,
        progress: RunProgress,
    ) -> None:
        self.progress = progress
        self.folder, self.device = folder, choose_device(device)
        spec = get_spec(model) if isinstance(model, str) else model
        named = isinstance(data, str) and data in NAMES
        # Whole paths, so that the run can go on from any folder.
        self.source = str(data) if named else str(Path(data).resolve())
        self.root = None if root is None else str(Path(root).resolve())
        if not named and folder.path.resolve().is_relative_to(self.source):
            raise UsageError(
                f"{folder.path}: a run folder inside {data} would become a part of the data",
                hint="give another --out",
            )
        if not named:
            progress.say(f"reading {data}")
        dataset = open_dataset(
            data,
            root=Path(root) if root is not None else None,
            side=stored_side(recipe.data.image_size or spec.image_size),
            broken=recipe.data.broken,
        )
        if recipe.augment.mirror == "auto":
            augment = recipe.augment.model_copy(update={"mirror": dataset.mirror})
            recipe = recipe.model_copy(update={"augment": augment})
        self.recipe = recipe
        self.dataset = divide(dataset, recipe.data.holdout, recipe.data.split_seed)
        channels, side, _ = dataset.train.images.shape
        size = recipe.data.image_size or (side if named else spec.image_size)
        self.spec = replace(
            spec, num_classes=len(dataset.classes), in_channels=channels, image_size=size
        )
        self.cost = profile(self.spec)
        self._check_sizes(side)
        self.preprocess = measure(self.dataset.train, size, recipe.data.normalize)

    def start(self, *, overwrite: bool) -> Run:
        """Begin a run in a new folder, or in one whose run is to be replaced."""
        self.folder.create(overwrite=overwrite)
        record = new_record(
            self.folder.path,
            source=self.source,
            root=self.root,
            dataset=self.dataset,
            spec=self.spec,
            cost=self.cost,
            recipe=self.recipe,
            device=self.device,
        )
        return self._run(self.state(), record)

    def go_on(self) -> Run:
        """Continue the run in the folder, which must be this one."""
        record = self.folder.read()
        if record.get("status") == "finished":
            # The state may have been deleted; these say the same.
            saved = load_recipe(self.folder.recipe)
            before = (saved, record["model"]["spec"], record["data"]["fingerprint"])
            if before != (self.recipe, self.spec.to_dict(), self.dataset.fingerprint):
                raise UsageError(
                    f"{self.folder.path}: holds a finished run with other data, model or recipe",
                    hint="give another --out",
                )
            return Run(self.folder.path, record["results"])
        if not self.folder.state.exists():
            if self.folder.has_results:
                raise CheckpointError(
                    f"{self.folder.path}: its state is gone, so the run cannot go on",
                    hint="give another --out, or --overwrite to start again",
                )
            return self.start(overwrite=True)  # killed before its first state
        state = self.state()
        state.load(self.folder.state)
        return self._run(state, record)

    def state(self) -> RunState:
        """Return the state of the run before its first step: weights drawn with the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            model = create_model(self.spec)
        model.preprocess, model.classes = self.preprocess, self.dataset.classes
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return RunState(model, build_optimizer(model, self.recipe.optimizer), self._identity())

    def feed(self) -> Feed:
        """Return the training part as the recipe augments and normalises it."""
        augment = self.recipe.augment
        black = (0,) * self.spec.in_channels
        mean = tuple(round(255 * value) for value in self.preprocess.channel_mean)
        return Feed(
            split=self.dataset.train,
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

    def _run(self, state: RunState, record: dict[str, Any]) -> Run:
        """Train, evaluate and write everything."""
        folder, feed, progress = self.folder, self.feed(), self.progress
        folder.write_record(record | {"status": "running"})
        write_text(folder.recipe, self.recipe.to_yaml())
        write_text(folder.drawing, draw(self.spec))
        write_json(folder.data, {"skipped": [asdict(s) for s in self.dataset.skipped]})
        for line in opening_lines(
            self.source, self.dataset, self.spec, self.cost, self.device, folder.data
        ):
            progress.say(line)
        if state.step:
            steps = total_steps(self.recipe, feed)
            progress.say(f"going on after step {state.step:,} of {steps:,}")
        stop = StopRequest()
        try:
            with progress, stop:
                validation = self.dataset.validation
                fit(state, feed, validation, self.recipe, folder, progress, stop)
            record["results"] = self._results(state)
            self._save(state, record)
            record["status"] = "finished"
        except Stopped as stopped:
            record["status"] = "stopped"
            stopped.exit_code = stop.exit_code
            raise
        except KeyboardInterrupt:
            record["status"] = "stopped"
            interrupted = Stopped("interrupted", hint=folder.how_to_go_on)
            interrupted.exit_code = 130
            raise interrupted from None
        except BaseException:
            record["status"] = "failed"
            raise
        finally:
            steps = total_steps(self.recipe, feed)
            record["progress"] = {
                "step": state.step,
                "steps": steps,
                "epoch": round(state.step / len(feed), 4),
                "epochs": round(steps / len(feed), 4),
                "seconds": round(state.seconds, 3),
            }
            folder.write_record(record)
        write_report([folder.path])
        return Run(folder.path, record["results"])

    def _identity(self) -> dict[str, Any]:
        """Return what must not change when a run goes on, flat, so that a change can be named."""
        recipe = self.recipe.model_dump(mode="json", exclude={"name", "source"})
        flat = {
            f"{section}.{key}" if key else section: value
            for section, values in recipe.items()
            for key, value in (values.items() if isinstance(values, dict) else [("", values)])
        }
        model = {f"model.{key}": value for key, value in self.spec.to_dict().items()}
        return {**flat, **model, "data": self.dataset.fingerprint}

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
        for name, split in self.dataset.parts.items():
            if name != "train":
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
                "sample": split.names(torch.tensor([i]))[0],
                "label": classes[int(evaluation.labels[i])],
                "predicted": classes[int(evaluation.predicted[i])],
                "confidence": round(float(evaluation.confidence[i]), 6),
                "picture": data_url(split, i),
            }
            for i in evaluation.mistakes(MISTAKES)
        ]

    def _save(self, state: RunState, record: dict[str, Any]) -> None:
        made = {key: record[key] for key in ("name", "data", "environment")}
        scores = {
            part: score and {k: v for k, v in score.items() if k != "confusion"}
            for part, score in record["results"].items()
        }
        travel = passport.Passport(
            spec=self.spec,
            preprocess=self.preprocess.to_dict(),
            classes=list(self.dataset.classes),
            made={**made, "recipe": self.recipe.model_dump(mode="json"), "results": scores},
        )
        passport.save(self.folder.weights, state.model.state_dict(), travel)

    def _check_sizes(self, side: int) -> None:
        """Raise UsageError when pictures, crops, padding or batches do not fit each other."""
        recipe, size = self.recipe, self.spec.image_size
        if size > side:
            raise UsageError(
                f"data.image_size is {size}, but {self.dataset.name} has pictures of {side}",
                hint="leave it out or lower it",
            )
        if recipe.augment.fill == "reflect" and recipe.augment.padding >= side:
            raise UsageError(
                f"augment.padding is {recipe.augment.padding}: a picture of {side} pixels cannot "
                "be reflected so far",
                hint="lower it",
            )
        *_, last, _ = self.cost.stages
        if last.output[1:] == (1, 1) and min(recipe.batch_size, len(self.dataset.train)) == 1:
            raise UsageError(
                "batch norm cannot train on a single picture whose last maps are 1x1",
                hint="raise batch_size or data.image_size",
            )


def _default_out(data: str | Path, model: str, recipe: Recipe) -> Path:
    parts = [Path(data).resolve().name if str(data) not in NAMES else str(data), model]
    return Path("runs") / "-".join(parts + ([recipe.name] if recipe.name != "default" else []))
