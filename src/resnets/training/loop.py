"""The training loop: feed -> step -> state -> evaluate."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from resnets.data.examined import witness_of
from resnets.data.photographs import Photographs
from resnets.errors import NonFiniteError, Stopped
from resnets.evaluation.network import evaluate
from resnets.evaluation.scores import Evaluation
from resnets.files import write_json
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import Epoch
from resnets.training.computing import computing, steps_of
from resnets.training.cuda_graph import GraphStep, graph_step
from resnets.training.divergence import find_divergence
from resnets.training.feed import Batch, Feed
from resnets.training.opening import advice
from resnets.training.prepare import Plan
from resnets.training.progress import Clock, RunProgress, metrics_text
from resnets.training.schedule import Schedule
from resnets.training.signals import StopRequest
from resnets.training.state import Best, RunState, Totals
from resnets.training.step import Outcome, seed_dropout, training_step
from resnets.training.tensorboard import TensorBoard
from resnets.training.trackers import Tracker, numbers_of
from resnets.training.waiting import Waiting
from resnets.weights.tensors import is_finite

ADVICE_SECONDS = 10.0  # of steps, before it is said how long a run takes
LONG_SECONDS = 900.0  # what is long enough to say what would be shorter


class Loop:
    """What a run goes round with. Every process has one; the first alone writes files."""

    def __init__(
        self,
        plan: Plan,
        state: RunState,
        feed: Feed,
        folder: RunFolder,
        progress: RunProgress,
        stop: StopRequest,
    ) -> None:
        self.plan, self.recipe, self.machine = plan, plan.recipe, plan.machine
        self.processes = plan.machine.processes
        self.state, self.feed, self.folder = state, feed, folder
        self.progress, self.stop = progress, stop
        self.validation = plan.dataset.validation and plan.dataset.validation.to(feed.device)
        self.steps = plan.steps
        self.epochs = -(-self.steps // len(feed))
        peak = self.recipe.optimizer.peak
        self.thawing = plan.thawing
        self.schedule = Schedule(
            self.recipe.schedule, peak, self.steps, state.rate, len(feed), self.thawing.head
        )
        self.clock = Clock(state.step, state.seconds, self.steps)
        self.lr = 0.0
        self.tracker: Tracker | None = None
        self._advised = False
        images = feed.split.images
        self.waiting = (
            Waiting(plan.source, images, plan.preprocess.size)
            if isinstance(images, Photographs)
            else None
        )
        self.witness = witness_of(plan.dataset) if self.machine.remember else None
        self.teacher: nn.Module | None = plan.teacher
        if plan.teacher and self.machine.compile:
            self.teacher = torch.compile(plan.teacher)  # type: ignore[assignment]
        self._computing = ExitStack()
        self._frozen: int | None = None  # parts that do not learn, as the network is now
        self.graph: GraphStep | None = None
        self.step: Callable[..., Outcome | None]

    def fit(self) -> None:
        """Train from ``state.step`` to the end of the recipe, saving after every epoch.

        Raises Stopped, after saving, when any process was asked to stop, and NonFiniteError,
        leaving the last state on disk, when the loss, a gradient or a weight is NaN or infinite.
        """
        state, first = self.state, self.processes.is_first
        if first and state.step:  # killed after its state, the run has not come to these
            self._follow()
        if state.step == self.steps or self._enough:  # stopped after its last step
            self.thawing.freeze(state.model, self.thawing.frozen(state.step - 1))
            return
        if first:
            self.tracker = TensorBoard(purge_step=state.step + 1)
            self.tracker.begin(self.folder.path, {}, "")
        device, to_come = self.feed.device, steps_of(self.plan, self.feed, state.step, self.steps)
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            self._computing,
            closing(self.feed.batches(to_come)) as batches,
        ):
            for epoch in range(state.step // len(self.feed), self.epochs):
                if self.machine.watch and state.metrics:
                    self.machine.watch(state.metrics, self.epochs)
                self._epoch(epoch, batches)
                if self._enough:
                    self.progress.say(state.patience.why_over())
                    break
        if self.tracker:
            self.tracker.end({}, "finished")

    @property
    def _enough(self) -> bool:
        """Whether the held-out split has not got better for so long that the run ends."""
        patience = self.recipe.schedule.patience
        return patience is not None and self.state.patience.waited >= patience

    def _thaw(self) -> None:
        """Let learn what learns from this step on, and make the network that computes it."""
        frozen = self.thawing.frozen(self.state.step)
        if frozen == self._frozen:
            return
        self._collect()
        self._computing.close()
        self.thawing.freeze(self.state.model, frozen)
        network = self._computing.enter_context(computing(self.plan, self.state.model))
        self.thawing.train(self.state.model, frozen)
        if self.machine.cuda_graph:
            self.graph, note = graph_step(network, self.state.optimizer, self.plan, self.teacher)
            if note and self._frozen is None:
                self.progress.say(note)
        self.step = self.graph or partial(
            training_step,
            network,
            self.state.optimizer,
            recipe=self.recipe,
            scaler=self.state.scaler,
            processes=self.processes,
            teacher=self.teacher,
        )
        self._frozen = frozen

    def _epoch(self, epoch: int, batches: Iterator[Batch]) -> None:
        state, indices = self.state, self.feed.indices(epoch)
        before = epoch * len(indices)
        last = min(len(indices), self.steps - before)
        for batch in range(state.step - before, last):
            self._thaw()
            started = time.monotonic()
            data = next(batches)
            ready = time.monotonic()
            self.lr = self.schedule.rate(state.step - state.skipped)
            if not self.graph:
                seed_dropout(self.recipe.seed, state.step, self.processes.rank)
            try:
                outcome = self.step(*data, lr=self.lr)
            except NonFiniteError as error:
                raise self._explained(error, epoch, batch, indices[batch]) from None
            self._count(outcome, indices[batch][self.processes.part(len(indices[batch]))])
            done = time.monotonic()
            state.epoch.pass_by(done - started, ready - started)
            samples = len(data.labels)
            if self.waiting and (told := self.waiting.add(samples, ready - started, done - ready)):
                self.progress.say(told)
            self._show(epoch, batch + 1, last, told=outcome is not None)
            if batch + 1 == last:
                self._end_epoch(epoch, last)
            self._save_or_stop(at_end=batch + 1 == last)

    def _count(self, outcome: Outcome | None, mine: Tensor) -> None:
        """Let everything that follows the weights follow a step; ``mine`` are its samples here."""
        state = self.state
        if not self.recipe.sync_batch_norm:  # each has followed its own share of the batch
            self.processes.share(state.model.buffers())
        state.step += 1
        if outcome and outcome.skipped:
            state.skipped += 1
        elif state.average:
            state.average.update(state.step - state.skipped)
        if outcome:
            state.epoch.add(outcome.samples, outcome.loss * outcome.samples, outcome.correct)
            if not outcome.skipped:
                self.schedule.after_step(outcome.samples, outcome.correct)
        state.ledger.add(self.processes.gather(mine))

    def _save_or_stop(self, *, at_end: bool) -> None:
        """Save at the end of an epoch, when the time has come, and when a process was to stop."""
        overdue = self.clock.overdue(60 * self.machine.save_minutes)
        # On every process what is so on any: signals and clocks differ.
        stop, save = self.processes.sum([float(self.stop.requested), float(overdue)])
        if stop or save or at_end:
            self._save()
        if stop:
            raise Stopped(
                f"stopped and saved at step {self.state.step:,} of {self.steps:,}",
                hint=self.folder.how_to_resume,
            )

    def _show(self, epoch: int, batch: int, last: int, *, told: bool) -> None:
        text, totals = self.clock.eta(self.state.step), self.state.epoch
        if told:
            speed = f"{totals.samples / totals.seconds:.0f} img/s"
            text = f"loss {totals.mean_loss:.3f}   {speed}   {text}"
        self.progress.step(self._title(epoch), batch, last, text)
        self._advise()

    def _advise(self) -> None:
        """Say once, after the first steps, that a run will take long, and what would not."""
        if not self._advised and self.clock.session >= ADVICE_SECONDS:
            self._advised = True
            left = self.clock.left(self.state.step)
            if left >= LONG_SECONDS and self.feed.device.type == "cpu":
                for line in advice(self.plan.spec, left):
                    self.progress.say(line)

    def _collect(self) -> None:
        """Wait for the steps that the host has not been told about, and count them."""
        if not self.graph:
            return
        began = time.monotonic()
        samples, loss, correct, sound = self.graph.collect()
        if not sound:
            raise NonFiniteError(
                f"the loss or a gradient is NaN or infinite in a step up to {self.state.step:,}",
                hint=f"{self._kept}lower optimizer.lr, or train without --cuda-graph to see at "
                "which step and with which samples",
            )
        self.state.epoch.pass_by(time.monotonic() - began)
        self.state.epoch.add(samples, loss, correct)

    def _end_epoch(self, epoch: int, steps: int) -> None:
        state = self.state
        self._collect()
        held_out = self._evaluate()
        self.schedule.after_epoch(held_out.loss if held_out else None)
        if held_out:
            settled = self.thawing.is_settled(state.step)
            state.patience.after_epoch(held_out.figure, held_out.loss, settled=settled)
        if (number := epoch + 1 - (self.epochs - self.recipe.soup)) > 0:
            state.soup.add(state.model, number)
        state.ledger.close(epoch, steps)
        line = self._metrics(held_out)
        state.metrics.append(line)
        state.epoch = Totals()
        if self.tracker:
            self.tracker.epoch(state.step, numbers_of(line))
        eta = "" if self._enough else self.clock.eta(state.step)
        self.progress.epoch(self._title(epoch), f"{metrics_text(line)}   {eta}".rstrip())
        self._warn()
        self.remember()

    def remember(self) -> None:
        """Keep what the images of a large set have turned out to be, and say it once."""
        if self.witness:
            gather, first = self.processes.gather, self.processes.is_first
            for line in self.witness.remember(gather, write=first):
                self.progress.say(line)

    def _warn(self) -> None:
        """Say it once when the run goes the wrong way."""
        losses, ignorant = self.state.losses, self.plan.ignorant_loss
        found = find_divergence(losses, ignorant)
        if found and not find_divergence(losses[:-1], ignorant):
            lower = f"{self.recipe.optimizer.peak / 10:.2g}"
            self.progress.say(f"warning: {found}; start again with --set optimizer.lr={lower}")

    def _evaluate(self) -> Evaluation | None:
        """Return the metrics on the held-out split, and keep the weights if they are the best."""
        state = self.state
        if self.validation is None:
            return None
        size = self.recipe.batch_size
        with state.average.applied() if state.average else nullcontext():
            evaluation = evaluate(
                state.model,
                self.validation,
                self.feed.preprocess,
                batch_size=size,
                processes=self.processes,
            )
            best = state.best.figure if state.best else -1.0
            if self.recipe.selection == "best" and evaluation.figure > best:
                tensors = {k: v.detach().clone() for k, v in state.model.state_dict().items()}
                state.best = Best(evaluation.figure, tensors)
        return evaluation

    def _save(self) -> None:
        """Write the state and what follows from it."""
        state = self.state
        self._collect()
        # Norms with infinite statistics may train on with a finite loss.
        for name, tensor in state.model.state_dict().items():
            if not is_finite(tensor):
                raise NonFiniteError(
                    f"{name} has a value that is NaN or infinite after step {state.step:,}",
                    hint=f"{self._kept}lower optimizer.lr",
                )
        state.seconds = self.clock.seconds
        if self.processes.is_first:
            state.save(self.folder.state_path(state.step))
            self._follow()
        self.processes.wait()  # torchrun ends them all when one leaves
        self.clock.saved()

    def _follow(self) -> None:
        """Let metrics, ledger and older states follow the state that is saved."""
        self.folder.write_metrics(self.state.metrics)
        self.folder.write_ledger(self.state.ledger.lines)
        self.folder.prune()

    def _metrics(self, held_out: Evaluation | None) -> Epoch:
        state, totals = self.state, self.state.epoch
        return Epoch(
            epoch=round(state.step / len(self.feed), 4),
            step=state.step,
            lr=self.lr,
            train_loss=totals.mean_loss,
            train_accuracy=totals.correct / totals.samples,
            validation_loss=held_out.loss if held_out else None,
            validation_accuracy=held_out.accuracy if held_out else None,
            validation_map=held_out.several.map if held_out and held_out.several else None,
            samples=totals.samples,
            train_seconds=round(totals.seconds, 3),
            data_seconds=round(totals.data_seconds, 3),
            images_per_second=round(totals.samples / totals.seconds, 1),
            seconds=round(self.clock.seconds, 3),
        )

    @property
    def _kept(self) -> str:
        return "an earlier state is kept; " if self.folder.states() else ""

    def _title(self, epoch: int) -> str:
        return f"epoch {epoch + 1:{len(str(self.epochs))}d}/{self.epochs}"

    def _explained(
        self, error: NonFiniteError, epoch: int, batch: int, index: Tensor
    ) -> NonFiniteError:
        """Return the error with the batch that caused it, which nonfinite.json lists whole."""
        step, names = self.state.step, self.feed.split.names(index)
        details = {"step": step, "epoch": epoch + 1, "batch": batch + 1, "lr": self.lr}
        if self.processes.is_first:
            write_json(self.folder.nonfinite, details | {"samples": names})
        some = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
        where = f"epoch {epoch + 1}, batch {batch + 1}, rate {self.lr:g}"
        return NonFiniteError(
            f"{error.message} at step {step:,} ({where}); its samples, {some}, are listed in "
            f"{self.folder.nonfinite}",
            hint=f"{self._kept}lower optimizer.lr or look at these samples",
        )
