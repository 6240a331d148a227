"""One run: data, recipe, model and machine brought together, from opening them to the last file."""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnets.analysis.drawing import draw
from resnets.analysis.profiling import profile
from resnets.data import NAMES, open_dataset
from resnets.data.framing import Frame
from resnets.data.holdout import divide
from resnets.data.identity import changes, read_manifest
from resnets.data.preprocess import measure, stored_side
from resnets.errors import CheckpointError, DataError, Stopped, UsageError
from resnets.files import write_json, write_text
from resnets.machine.environment import environment
from resnets.machine.processes import ALONE, Processes, launch, launched
from resnets.models import create_model
from resnets.nn.sync_batch_norm import synchronize
from resnets.readers.documents import read_json
from resnets.report import write_report
from resnets.run_folder.directory import RunFolder
from resnets.spec import Spec
from resnets.training.captured import captured_step
from resnets.training.divergence import find_divergence
from resnets.training.ema import Average
from resnets.training.feasible import check
from resnets.training.feed import build_feed
from resnets.training.loop import Loop, total_steps
from resnets.training.memory import check_fits
from resnets.training.opening import new_record, opening_lines, recipe_line, timestamp
from resnets.training.precise_bn import measure_statistics
from resnets.training.progress import RunProgress
from resnets.training.recipe import Recipe, read_recipe
from resnets.training.results import evaluate_parts, write_weights
from resnets.training.schedule import fitted_rate
from resnets.training.signals import StopRequest
from resnets.training.state import RunState
from resnets.training.step import build_optimizer
from resnets.zoo import get_spec


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its results, as in run.json."""

    path: Path
    results: dict[str, Any]
    classes: tuple[str, ...] = ()
    stop_requested: bool = False  # by a signal that came when there was nothing left to stop

    @property
    def report(self) -> Path:
        """The page to look at."""
        return RunFolder(self.path).report


Running = Generator[None, None, Run]  # pauses after every step, and returns the finished run
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Machine:
    """Where and how a run computes; none of it belongs to what is computed."""

    processes: Processes = ALONE
    device: torch.device = _CPU
    compile: bool = False
    save_minutes: float = 10
    capture: bool = True  # record the step, where that is possible
    checkpointing: bool = False  # keep little for the way back
    stop: StopRequest | None = None  # of all the runs that share it


def finished(folder: RunFolder, record: dict[str, Any], processes: Processes) -> Running:
    """Return a run that has come to its end, with its page if it was killed before that."""
    yield from ()
    if processes.is_first and not folder.report.exists():
        write_report([folder.path])
    return Run(folder.path, record["results"], tuple(record["data"]["classes"]))


class Experiment:
    """The parts of a run, from opening the data to the last file."""

    def __init__(
        self,
        data: str | Path,
        model: str | Spec,
        recipe: Recipe,
        folder: RunFolder,
        root: str | Path | None,
        machine: Machine,
        progress: RunProgress,
        *,
        goes_on: bool = False,
    ) -> None:
        """Open the data; ``goes_on`` says that the folder has a run that is to go on."""
        self.folder, self.machine, self.progress = folder, machine, progress
        self.processes = machine.processes
        self.stop = machine.stop or StopRequest(watch_parent=launched())
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
        version = _version(folder) if goes_on else 2
        dataset = open_dataset(
            data,
            root=Path(root) if root is not None else None,
            broken=recipe.data.broken,
            broken_limit=recipe.data.broken_limit,
            frame=_frame(recipe, spec, cuts=3 - version),
            scale=recipe.data.range or ("measured" if version == 2 else "own"),
            report=progress.reading,
        )
        if goes_on:  # as it was then, when an earlier version has begun the run
            dataset = dataset.known_as(folder.read()["data"]["fingerprint"]) or dataset
        if recipe.augment.mirror == "auto":
            augment = recipe.augment.model_copy(update={"mirror": dataset.mirror})
            recipe = recipe.model_copy(update={"augment": augment})
        self.recipe = recipe
        self.dataset = divide(dataset, recipe.data.holdout, recipe.data.split_seed)
        self._check_same_everywhere()
        channels, side, _ = dataset.train.images.shape
        size = recipe.data.image_size or (side if named else spec.image_size)
        self.spec = replace(
            spec, num_classes=len(dataset.classes), in_channels=channels, image_size=size
        )
        self.cost = profile(self.spec)
        check(recipe, self.dataset, self.cost, self.processes.count)
        check_fits(
            self.spec,
            recipe,
            batch=-(-min(recipe.batch_size, len(self.dataset.train)) // self.processes.count),
            picture=self.dataset.train.images.shape,
            device=machine.device,
            checkpointing=machine.checkpointing,
        )
        depth = dataset.depth.scale if dataset.depth else recipe.data.range
        measured = measure(
            self.dataset.train,
            size,
            recipe.data.normalize,
            fit=recipe.data.fit,
            range=depth if isinstance(depth, tuple) else None,
        )
        self.preprocess = replace(measured, version=version)
        self.feed = build_feed(self.dataset, recipe, self.preprocess, machine.device)
        self.fitted = recipe.optimizer.lr == "auto"
        if self.fitted:
            batch = min(recipe.batch_size, len(self.dataset.train))
            self.recipe = _with_rate(recipe, fitted_rate(batch, total_steps(recipe, self.feed)))

    def start(self, *, overwrite: bool) -> Running:
        """Begin a run in a new folder, or in one whose run is to be replaced."""
        if self.processes.is_first:
            self.folder.create(overwrite=overwrite)
        record = new_record(
            self.folder.path,
            source=self.source,
            root=self.root,
            dataset=self.dataset,
            spec=self.spec,
            cost=self.cost,
            recipe=self.recipe,
            environment=environment(self.machine.device, self.processes, self.recipe.precision),
        )
        if launched():
            record["launch"] = launch()
        if self.processes.is_first and self.dataset.manifest is not None:
            self.dataset.manifest.write(self.folder.pictures)
        return (yield from self._run(self.state(), record))

    def go_on(self, changes: Sequence[str] = ()) -> Running:
        """Continue the run in the folder, which must be this one, but for ``changes`` of settings.

        These may concern what `state.CHANGEABLE` names.
        """
        with self._alone():
            return (yield from self._go_on(self.folder.read(), changes))

    def _go_on(self, record: dict[str, Any], changes: Sequence[str]) -> Running:
        if record.get("status") == "finished":
            # The state may have been deleted; these say the same.
            saved = read_recipe(self.folder.recipe)
            before = (saved, record["model"]["spec"], record["data"]["fingerprint"])
            if before != (self.recipe, self.spec.to_dict(), self.dataset.fingerprint):
                found = self._data_changes(record)
                raise UsageError(
                    f"{self.folder.path}: holds a finished run with other data, model or recipe"
                    + (found and f": {found}"),
                    hint="give another --out",
                )
            return (yield from finished(self.folder, record, self.processes))
        states = self.folder.states()
        unfounded = self.folder.has_results and not states
        self.processes.wait()  # all have looked before one writes
        if unfounded:
            raise CheckpointError(
                f"{self.folder.path}: its state is gone, or of an older version, so the run cannot "
                "go on",
                hint="give another --out, or --overwrite to start again",
            )
        if not states:
            return (yield from self.start(overwrite=True))  # killed before its first state
        state = self.state()
        # Until the next state the one on disk is from before an earlier change.
        made = record.get("changes", [])
        problems = state.load(
            states, may_change=bool(changes or made), data_changes=self._data_changes(record)
        )
        record["data"]["source"] = self.source  # they may have moved
        for problem, path in zip(problems, states, strict=False):
            self.progress.say(f"{problem}; going on from the state before it")
            if self.processes.is_first:
                path.unlink(missing_ok=True)
        steps = self.processes.gather(torch.tensor([state.step]))
        if (steps != state.step).any():
            raise CheckpointError(
                f"{self.folder.path}: the processes have read states of different steps",
                hint="give all of them the same folder, and try again",
            )
        if changes:
            self._check_length(state)
            record["changes"] = [*made, {"step": state.step, "settings": [*changes]}]
        return (yield from self._run(state, record))

    def _data_changes(self, record: dict[str, Any]) -> str:
        """Return in what the pictures differ from those that the run has begun with, if known."""
        same = record["data"].get("fingerprint") == self.dataset.fingerprint
        if same or self.dataset.manifest is None:
            return ""
        before = read_manifest(self.folder.pictures)
        return "" if before is None else str(changes(before, self.dataset.manifest))

    def _check_length(self, state: RunState) -> None:
        """Raise UsageError for a changed length that would cut an epoch's books in two."""
        steps, lines = total_steps(self.recipe, self.feed), state.ledger.lines
        if steps < state.step or (steps == state.step and state.epoch.samples):
            raise UsageError(
                f"{self.folder.path}: is at step {state.step:,} already",
                hint="raise schedule.epochs or schedule.iterations",
            )
        if lines and lines[-1].steps < len(self.feed) and steps > state.step:
            raise UsageError(
                f"{self.folder.path}: has ended within an epoch and cannot be longer",
                hint="start another run with --out",
            )

    def state(self) -> RunState:
        """Return the state of the run before its first step: weights drawn with the seed."""
        recipe, device = self.recipe, self.machine.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = create_model(self.spec)
        model.preprocess, model.classes = self.preprocess, self.dataset.classes
        model.outputs = "softmax"  # which the loss is of
        if self.machine.checkpointing:
            model.recompute_stages()
        if self.processes.count > 1 and recipe.sync_batch_norm:
            synchronize(model)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        scales = recipe.precision == "float16"
        return RunState(
            model,
            build_optimizer(model, recipe.optimizer),
            self._identity(),
            average=Average(model, recipe.ema) if recipe.ema else None,
            scaler=torch.amp.GradScaler(device.type) if scales else None,
        )

    def network(self, model: nn.Module) -> nn.Module:
        """Return what computes a step of the model here: in several processes, compiled."""
        if self.processes.count > 1:
            model = DistributedDataParallel(model)
            # It lays out the order of its sums anew after the first backward pass. To sum alike
            # before and after a stop, have that behind us.
            picture = torch.zeros(1, self.spec.in_channels, *2 * (self.spec.image_size,))
            model.eval()(picture.to(self.machine.device)).sum().backward()
            model.zero_grad()
        return torch.compile(model) if self.machine.compile else model  # type: ignore[return-value]

    def _run(self, state: RunState, record: dict[str, Any]) -> Running:
        """Train, evaluate and write everything; the first process alone writes."""
        first = self.processes.is_first
        stop = self.stop
        with self._alone(), self.progress, stop:
            self.processes.wait()  # nobody computes before the folder is ours
            try:
                self._open(state, record)
                yield from self._fit(state, stop)
                results = evaluate_parts(
                    state, self.dataset, self.feed, self.processes, self.folder
                )
                if first:
                    made = {key: record[key] for key in ("name", "data", "environment")}
                    made["recipe"] = self.recipe.model_dump(mode="json")
                    write_weights(self.folder, state.model, made, results)
                record |= {"results": results, "status": "finished"}
            except Stopped as stopped:
                record["status"] = "stopped"
                stopped.exit_code = stop.exit_code
                raise
            except KeyboardInterrupt:
                record["status"] = "stopped"
                interrupted = Stopped("interrupted", hint=self.folder.how_to_go_on)
                interrupted.exit_code = 130
                raise interrupted from None
            except BaseException:
                record["status"] = "failed"
                raise
            finally:
                if first:
                    self._close(state, record)
            if first:
                write_report([self.folder.path])
        return Run(self.folder.path, record["results"], self.dataset.classes, stop.requested)

    def _alone(self) -> AbstractContextManager[None]:
        """Keep other runs out of the folder."""
        return self.folder.lock() if self.processes.is_first else nullcontext()

    def _open(self, state: RunState, record: dict[str, Any]) -> None:
        """Write down what begins, and say it."""
        folder, progress = self.folder, self.progress
        now = environment(self.machine.device, self.processes, self.recipe.precision)
        sitting = {"started": timestamp(), "from_step": state.step, "environment": now}
        record.setdefault("sittings", []).append(sitting)
        if self.processes.is_first:
            folder.write_record(record | {"status": "running"})
            write_text(folder.recipe, self.recipe.to_yaml())
            write_text(folder.drawing, draw(self.spec))
            skipped = [asdict(skipped) for skipped in self.dataset.skipped]
            prepared = self.preprocess.to_dict()  # the weights have it too, when the run has ended
            write_json(folder.data, {"skipped": skipped, "preprocess": prepared})
        for line in opening_lines(
            self.source, self.dataset, self.spec, self.cost, now, folder.data, self.recipe
        ):
            progress.say(line)
        steps = total_steps(self.recipe, self.feed)
        progress.say(recipe_line(self.recipe, steps, fitted=self.fitted))
        if state.step:
            progress.say(f"going on after step {state.step:,} of {steps:,}")

    def _fit(self, state: RunState, stop: StopRequest) -> Iterator[None]:
        """Train to the end of the recipe, and leave the weights that are kept in the model."""
        network, machine = self.network(state.model), self.machine
        # A graph cannot be recorded while the blocks' random numbers are looked at.
        records = (machine.capture and not machine.checkpointing) and captured_step(
            network, state.optimizer, self.recipe, self.spec, self.processes
        )
        loop = Loop(
            state,
            network,
            self.feed,
            self.dataset.validation and self.dataset.validation.to(machine.device),
            self.recipe,
            self.folder,
            self.progress,
            stop,
            self.processes,
            60 * machine.save_minutes,
            records or None,
        )
        yield from loop.run()
        if state.best:
            state.model.load_state_dict(state.best.tensors)
        elif state.average:
            state.model.load_state_dict(state.average.tensors)
        if count := self.recipe.precise_batch_norm:
            measure_statistics(state.model, self._fresh(count), self.processes)

    def _fresh(self, count: int) -> Iterator[Tensor]:
        """Yield ``count`` training samples as the epoch after the last would have them."""
        epoch = -(-total_steps(self.recipe, self.feed) // len(self.feed))
        for index in self.feed.indices(epoch):
            index = index[:count]
            if len(index):
                yield self.feed.batch(index[self.processes.part(len(index))], epoch).images
            count -= len(index)

    def _close(self, state: RunState, record: dict[str, Any]) -> None:
        """Write down how far the run came."""
        feed, steps = self.feed, total_steps(self.recipe, self.feed)
        record["sittings"][-1] |= {
            "to_step": state.step,
            "ended": timestamp(),
            "status": record["status"],
        }
        record["progress"] = {
            "step": state.step,
            "steps": steps,
            "epoch": round(state.step / len(feed), 4),
            "epochs": round(steps / len(feed), 4),
            "seconds": round(state.seconds, 3),
        }
        losses = [line["train_loss"] for line in state.metrics]
        divergence = find_divergence(losses, self.spec.num_classes)
        record["warnings"] = [str(divergence)] if divergence else []
        self.folder.write_record(record)

    def _identity(self) -> dict[str, Any]:
        """Return what must not change when a run goes on, flat, so that a change can be named."""
        recipe = self.recipe.flat()
        own = {key: recipe[key] for key in recipe if key not in ("name", "source")}
        model = {f"model.{key}": value for key, value in self.spec.to_dict().items()}
        identity = {**own, **model, "data": self.dataset.fingerprint}
        if not self.recipe.sync_batch_norm or self.recipe.optimizer.accumulate > 1:
            identity["processes"] = self.processes.count  # batch norm then depends on it
        return identity

    def _check_same_everywhere(self) -> None:
        """Raise DataError when the processes read different data."""
        digest = hashlib.sha256(self.dataset.fingerprint.encode()).digest()
        digests = self.processes.gather(torch.tensor([list(digest)], dtype=torch.uint8))
        if (digests != digests[0]).any():
            raise DataError(
                "the processes have read different pictures or labels",
                hint="give all of them the same files",
            )


def _with_rate(recipe: Recipe, rate: float) -> Recipe:
    optimizer = recipe.optimizer.model_copy(update={"lr": rate})
    return recipe.model_copy(update={"optimizer": optimizer})


def _version(folder: RunFolder) -> int:
    """Return how a run that goes on has prepared its pictures, as `Preprocess.version` says it.

    Raises CheckpointError for a damaged data.json, which does not say.
    """
    try:
        values = read_json(folder.data)
    except FileNotFoundError:  # it has not begun
        return 2
    prepared = values.get("preprocess") if isinstance(values, dict) else None
    return 2 if isinstance(prepared, dict) and prepared.get("version") == 2 else 1


def _frame(recipe: Recipe, spec: Spec, cuts: int) -> Frame:
    """Return how pictures of a folder are kept: of a side that is enough for every crop."""
    size = recipe.data.image_size or spec.image_size
    if recipe.data.fit != "crop":
        return Frame(size, size, recipe.data.fit, cuts=cuts)
    side = stored_side(size)
    side = max(side, recipe.augment.scale[1]) if recipe.augment.scale else side
    return Frame(side, size, cuts=cuts)
