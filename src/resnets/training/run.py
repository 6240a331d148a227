"""One run, from its plan to the last file: begun or resumed, trained, evaluated, written down."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from resnets.analysis.drawing import draw
from resnets.errors import Stopped
from resnets.evaluation.network import evaluate
from resnets.files import write_text
from resnets.formatting import percent
from resnets.machine.environment import environment
from resnets.machine.torchrun import launched
from resnets.report.page import write_report
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import (
    LeftOut,
    Preparation,
    Progress,
    Record,
    Score,
    Session,
    Taught,
    to_plain,
)
from resnets.training.begun import ending_of
from resnets.training.computing import initial_state
from resnets.training.divergence import find_divergence
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
from resnets.training.prepare import Plan
from resnets.training.progress import RunProgress
from resnets.training.results import evaluate_parts, write_weights
from resnets.training.resuming import check_same, take_up
from resnets.training.signals import StopRequest
from resnets.training.state import RunState
from resnets.training.tracking import Followers


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its results, as in run.json."""

    path: Path
    results: dict[str, Any] = field(repr=False)
    classes: tuple[str, ...] = field(default=(), repr=False)
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
            check_same(plan, folder, record)
            return finished(folder, record, progress, first=first)
        state = initial_state(plan)
        if resume and (resumed := take_up(plan, folder, progress, state, record, changes)):
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
        ending = ending_of(plan.machine)
        record = replace(record, sessions=(*record.sessions, session), ending=ending)
        followers: Followers | None = None
        try:
            record = _meet_teacher(plan, feed, record)
            _open(plan, folder, progress, state, record)
            if first:
                followers = Followers(plan.machine.track, folder, progress.say)
            loop = Loop(plan, state, feed, folder, progress, stop)
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
