"""One run, from its plan to the last file: begun or resumed, trained, evaluated, written down."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnets.analysis.drawing import draw
from resnets.data.dataset import Dataset
from resnets.data.identity import changes as changes_of
from resnets.data.identity import read_manifest
from resnets.errors import CheckpointError, Stopped, UsageError
from resnets.evaluation.network import evaluate
from resnets.files import write_text
from resnets.formatting import percent
from resnets.machine.environment import environment
from resnets.machine.torchrun import launched
from resnets.models import create_model
from resnets.nn.sync_batch_norm import synchronize
from resnets.report.page import write_report
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import (
    UNDECIDED,
    Change,
    LeftOut,
    Preparation,
    Progress,
    Record,
    Score,
    Session,
    Taught,
    to_plain,
)
from resnets.training.divergence import find_divergence
from resnets.training.ema import Average, decays
from resnets.training.feed import Feed, Step, build_feed
from resnets.training.loop import Loop
from resnets.training.opening import (
    new_record,
    opening_lines,
    recipe_line,
    teacher_line,
    timestamp,
)
from resnets.training.precise_bn import measure_statistics
from resnets.training.prepare import Plan, identity_of
from resnets.training.progress import RunProgress
from resnets.training.recipe import read_recipe
from resnets.training.results import evaluate_parts, write_weights
from resnets.training.signals import StopRequest
from resnets.training.state import RunState, differences
from resnets.training.step import build_optimizer
from resnets.training.tracking import Followers


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its results, as in run.json."""

    path: Path
    results: dict[str, Any]
    classes: tuple[str, ...] = ()
    asked_to_stop: int | None = None  # the exit code, by a signal too late for it to stop

    @property
    def report(self) -> Path:
        """The page to look at."""
        return RunFolder(self.path).report


def run(
    plan: Plan,
    folder: RunFolder,
    progress: RunProgress,
    *,
    resume: bool = False,
    overwrite: bool = False,
    changes: Sequence[str] = (),
) -> Run:
    """Train, evaluate and write everything; with several processes the first alone writes.

    ``resume`` continues the run in the folder, which must be this one, but for ``changes`` of
    settings, which may concern what `state.CHANGEABLE` names.
    """
    processes = plan.machine.processes
    first = processes.is_first
    if first and not resume:
        folder.create(overwrite=overwrite)
    stop = StopRequest(watch_parent=launched())
    with folder.lock() if first else nullcontext(), progress, stop:
        record = folder.read_record() if resume else new_record(folder.path, plan)
        if record.finished:
            _check_same(plan, folder, record)
            return finished(folder, record, progress, first=first)
        state = initial_state(plan)
        if resume and (resumed := _take_up(plan, folder, progress, state, record, changes)):
            record = resumed
        elif resume:  # killed before its first state
            if first:
                folder.create(overwrite=True)
            record = new_record(folder.path, plan)
        if first and not state.step and plan.dataset.manifest is not None:
            plan.dataset.manifest.write(folder.manifest)
        feed = build_feed(plan.dataset, plan.recipe, plan.preprocess, plan.machine.where)
        processes.wait()  # nobody computes before the folder is ours
        now = environment(plan.machine.where, processes, plan.recipe.precision)
        session = Session(timestamp(), state.step, now)
        record = replace(record, sessions=(*record.sessions, session))
        followers: Followers | None = None
        try:
            record = _meet_teacher(plan, feed, record)
            _open(plan, folder, progress, state, record)
            if first:
                followers = Followers(plan.machine.track, folder, progress.say)
            wrap = partial(computing, plan, state.model)
            loop = Loop(plan, state, wrap, feed, folder, progress, stop)
            loop.fit()
            _settle(plan, state, feed)
            seen = plan.dataset if plan.machine.test else replace(plan.dataset, test=None)
            how = plan.machine.calibrate, plan.machine.false_alarms
            results = evaluate_parts(state, seen, feed, processes, folder, *how)
            loop.remember()  # what the test split has shown
            if record.teacher and results.validation:
                progress.say(_beside_the_teacher(record.teacher, results.validation))
            if first:
                made = {
                    "name": record.name,
                    "data": to_plain(record.data),
                    "environment": record.environment,
                    "recipe": plan.recipe.model_dump(mode="json"),
                    "results": to_plain(results.summary),
                }
                if record.teacher:
                    made["teacher"] = to_plain(record.teacher)
                write_weights(folder, state.model, made)
            record = replace(record, results=results, status="finished")
        except (Stopped, KeyboardInterrupt) as interruption:
            record = replace(record, status="stopped")
            if isinstance(interruption, Stopped):
                interruption.exit_code = stop.exit_code
                raise
            raise Stopped("interrupted", hint=folder.how_to_resume, exit_code=130) from None
        except BaseException:
            record = replace(record, status="failed")
            raise
        finally:
            if first:
                _close(plan, folder, state, record)
                if followers:
                    followers.end()
        if first:
            write_report([folder.path])
    late = stop.exit_code if stop.requested else None
    return Run(folder.path, to_plain(results), plan.dataset.classes, late)


def finished(folder: RunFolder, record: Record, progress: RunProgress, *, first: bool) -> Run:
    """Return a run that has come to its end, with its page if it was killed before that."""
    progress.say(f"{folder.path}: is finished; nothing is left to train")
    if first and not folder.report.exists():
        write_report([folder.path])
    return Run(folder.path, to_plain(record.results), record.data.classes)


def _frequencies(dataset: Dataset) -> Tensor:
    """Return the share of training images with each class, and of none 0 or 1, (classes,)."""
    counts = torch.tensor(dataset.counts, dtype=torch.float64)
    return (counts + 1) / (len(dataset.train) + 2)


def initial_state(plan: Plan) -> RunState:
    """Return the state before the first step: weights drawn with the seed, or those given."""
    recipe, machine = plan.recipe, plan.machine
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = create_model(plan.spec)
    if plan.start and plan.start.tensors:
        model.load_state_dict(plan.start.tensors)
    model.preprocess, model.classes = plan.preprocess, plan.dataset.classes
    # Where an image has one class that is so whichever loss.
    model.outputs = "sigmoid" if plan.dataset.several else "softmax"
    if plan.dataset.several:
        model.thresholds = (UNDECIDED,) * len(model.classes)
        new = plan.start is None or plan.start.new_classifier
        if new and recipe.loss == "binary_cross_entropy":
            # Begun at the classes' frequencies, it need not first learn that most are rare.
            with torch.no_grad():
                model.fc.bias.copy_(_frequencies(plan.dataset).logit())
    if machine.checkpointing:
        model.recompute_stages()
    if machine.processes.count > 1 and recipe.sync_batch_norm:
        synchronize(model)
    model.to(machine.where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scales = recipe.precision == "float16"
    thawing = plan.thawing
    return RunState(
        model,
        build_optimizer(model, recipe.optimizer, thawing.place if thawing.divides else None),
        plan.identity,
        average=Average(model, decays(recipe, plan.steps, plan.batches)) if recipe.ema else None,
        scaler=torch.amp.GradScaler(machine.where.type) if scales else None,
    )


def _check_same(plan: Plan, folder: RunFolder, record: Record) -> None:
    """Raise UsageError when a finished run, whose state may have been deleted, is another."""
    recipe = read_recipe(folder.recipe)
    weights = record.weights.digest if record.weights else None
    teacher = record.teacher.digest if record.teacher else None
    before = identity_of(recipe, record.model.spec, record.data.fingerprint, weights, teacher)
    now = {key: value for key, value in plan.identity.items() if key != "processes"}
    if changed := differences(before, now, _data_changes(plan, folder, record)):
        raise UsageError(
            f"{folder.path}: holds a finished run, and this would be another one: "
            f"{'; '.join(changed.values())}",
            hint="give another --out",
        )


def _take_up(
    plan: Plan,
    folder: RunFolder,
    progress: RunProgress,
    state: RunState,
    record: Record,
    changes: Sequence[str],
) -> Record | None:
    """Bring the state to where the run in the folder stands, and return its record.

    None where it has no state.
    """
    processes, states = plan.machine.processes, folder.states()
    unfounded = folder.has_results and not states
    processes.wait()  # all have looked before one writes
    if unfounded:
        raise CheckpointError(
            f"{folder.path}: its state is gone, or of an older version, so it cannot be resumed",
            hint="give another --out, or --overwrite to start again",
        )
    if not states:
        return None
    # Until the next state the one on disk is from before an earlier change.
    found, may_change = _data_changes(plan, folder, record), bool(changes or record.changes)
    problems = state.load(states, may_change=may_change, data_changes=found)
    for problem, path in zip(problems, states, strict=False):
        progress.say(f"{problem}; resumed from the state before it")
        if processes.is_first:
            path.unlink(missing_ok=True)
    steps = processes.gather(torch.tensor([state.step]))
    if (steps != state.step).any():
        raise CheckpointError(
            f"{folder.path}: the processes have read states of different steps",
            hint="give all of them the same folder, and try again",
        )
    if changes:
        _check_length(plan, folder, state)
        change = Change(state.step, tuple(changes))
        record = replace(record, changes=(*record.changes, change))
    return replace(record, data=replace(record.data, source=plan.source))  # they may have moved


def _data_changes(plan: Plan, folder: RunFolder, record: Record) -> str:
    """Return in what the images differ from those that the run has begun with, if known."""
    dataset = plan.dataset
    if record.data.fingerprint == dataset.fingerprint or dataset.manifest is None:
        return ""
    before = read_manifest(folder.manifest)
    return "" if before is None else str(changes_of(before, dataset.manifest))


def _check_length(plan: Plan, folder: RunFolder, state: RunState) -> None:
    """Raise UsageError for a changed length that would cut an epoch's books in two."""
    steps, lines = plan.steps, state.ledger.lines
    if steps < state.step or (steps == state.step and state.epoch.samples):
        raise UsageError(
            f"{folder.path}: is at step {state.step:,} already",
            hint="raise schedule.epochs or schedule.iterations",
        )
    if lines and lines[-1].steps < plan.batches and steps > state.step:
        raise UsageError(
            f"{folder.path}: has ended within an epoch and cannot be longer",
            hint="start another run with --out",
        )


def _open(
    plan: Plan, folder: RunFolder, progress: RunProgress, state: RunState, record: Record
) -> None:
    """Write down what begins, and say it."""
    if plan.machine.processes.is_first:
        folder.write_record(replace(record, status="running"))
        write_text(folder.recipe, plan.recipe.to_yaml())
        write_text(folder.drawing, draw(plan.spec))
        _write_preparation(plan, folder)
    for line in opening_lines(plan, record.sessions[-1].environment, folder.data):
        progress.say(line)
    progress.say(recipe_line(plan))
    if record.teacher:
        progress.say(teacher_line(record.teacher, plan.recipe.distill))
    if state.step:
        progress.say(f"resumed after step {state.step:,} of {plan.steps:,}")


def _meet_teacher(plan: Plan, feed: Feed, record: Record) -> Record:
    """Return the record with where the teacher is, and how good on the held-out split."""
    if not plan.teacher or not record.teacher:
        return record
    taught = replace(record.teacher, source=plan.teacher.source)  # it may have moved
    held_out = plan.dataset.validation
    if held_out and taught.accuracy is None:
        found = evaluate(
            plan.teacher,
            held_out.to(feed.device),
            feed.preprocess,
            batch_size=feed.batch_size,
            processes=plan.machine.processes,
        )
        taught = replace(taught, accuracy=found.accuracy)
    return replace(record, teacher=taught)


def _beside_the_teacher(teacher: Taught, student: Score) -> str:
    return (
        f"held out: {percent(student.accuracy, 2)}; its teacher {percent(teacher.accuracy, 2)} of "
        "the same images"
    )


def _write_preparation(plan: Plan, folder: RunFolder) -> None:
    """Write down what was left out, and how images are prepared, as the weights will say too."""
    skipped = tuple(LeftOut(**asdict(skipped)) for skipped in plan.dataset.left_out)
    folder.write_preparation(Preparation(skipped, plan.preprocess.to_dict()))


@contextmanager
def computing(plan: Plan, model: nn.Module) -> Iterator[nn.Module]:
    """Yield what computes a step of the model here: in several processes, compiled."""
    several = plan.machine.processes.count > 1
    if several and plan.recipe.sync_batch_norm:
        synchronize(model)  # norms that learn again are plain ones
    network = DistributedDataParallel(model) if several else model
    try:
        if several:
            # It lays out the order of its sums anew after the first backward pass. To sum alike
            # before and after a stop, have that behind us.
            image = torch.zeros(1, plan.spec.in_channels, *2 * (plan.spec.image_size,))
            network.eval()(image.to(plan.machine.where)).sum().backward()
            network.zero_grad()
        yield torch.compile(network) if plan.machine.compile else network  # type: ignore[misc]
    finally:
        # Who keeps an error of the loop keeps its frames, and so the network, whose reducer must
        # not outlive the process group: it would wait for gloo's thread without letting go of the
        # interpreter, for which that thread may be waiting.
        if several:
            del network.logger, network.reducer, network.process_group


def _settle(plan: Plan, state: RunState, feed: Feed) -> None:
    """Leave in the model the weights that are kept, and their statistics."""
    if state.soup.tensors:
        state.model.load_state_dict(state.soup.tensors)
    elif state.best:
        state.model.load_state_dict(state.best.tensors)
    elif state.average:
        state.model.load_state_dict(state.average.tensors)
    if count := plan.recipe.precise_batch_norm:
        fresh = _fresh_images(plan, feed, count)
        measure_statistics(state.model, fresh, plan.machine.processes)


def _fresh_images(plan: Plan, feed: Feed, count: int) -> Iterator[Tensor]:
    """Yield ``count`` training samples as the epoch after the last would have them."""
    epoch = -(-plan.steps // plan.batches)
    part = plan.machine.processes.part

    def steps(left: int) -> Iterator[Step]:
        for index in feed.indices(epoch):
            index = index[:left]
            if len(index):
                yield feed.step(epoch, index, part(len(index)), feed.augment.size)
            left -= len(index)

    return (batch.images for batch in feed.batches(steps(count)))


def _close(plan: Plan, folder: RunFolder, state: RunState, record: Record) -> None:
    """Write down how far the run came, and what could not be read."""
    if plan.dataset.left_out != plan.dataset.skipped:
        _write_preparation(plan, folder)
    *before, last = record.sessions
    last = replace(last, to_step=state.step, ended=timestamp(), status=record.status)
    progress = Progress(
        step=state.step,
        steps=plan.steps,
        epoch=round(state.step / plan.batches, 4),
        epochs=round(plan.steps / plan.batches, 4),
        seconds=round(state.seconds, 3),
    )
    divergence = find_divergence(state.losses, plan.ignorant_loss)
    warnings = (str(divergence),) if divergence else ()
    folder.write_record(
        replace(record, sessions=(*before, last), progress=progress, warnings=warnings)
    )
