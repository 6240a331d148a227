"""How the run moves from step to step: the learning rate, and the size of the images."""

from dataclasses import dataclass
from math import cos, inf, pi

from resnets.formatting import plural
from resnets.training.recipe import LONG_RATE, AugmentRecipe, ScheduleRecipe

WINDOW = 100  # steps over which the warm-up by error measures the training error
MIN_DELTA = 1e-4  # by which a held-out loss must fall to count; ReduceLROnPlateau's default
LONG_STEPS, LONG_BATCH = 600, 64  # from which on a run has the rate of a long one


@dataclass
class RateMemory:
    """All that a schedule remembers of the run, as plain values that go into the run's state."""

    warm: bool = False  # the warm-up by error is over
    samples: int = 0  # of the current window
    correct: int = 0  # of the current window
    steps: int = 0  # of the current window
    warm_steps: int = 0  # that the warm-up by error took
    best: float | None = None  # held-out loss
    waited: int = 0  # epochs since that loss fell, or since the last drop
    scale: float = 1.0  # what the plateau multiplies the rate by


@dataclass
class Patience:
    """What early stopping remembers: the best result on the held-out split, and since when."""

    accuracy: float = -1.0
    loss: float = 0.0
    waited: int = 0  # epochs since then

    def after_epoch(self, accuracy: float, loss: float, *, settled: bool = True) -> None:
        """Count an epoch with this result; before all learns that will, nothing is waited for."""
        if (accuracy, -loss) > (self.accuracy, -self.loss):
            self.accuracy, self.loss, self.waited = accuracy, loss, 0
        elif settled:
            self.waited += 1

    def why_over(self) -> str:
        """Say why a run ends."""
        return (
            "ended early: on the held-out split nothing has been better than accuracy "
            f"{self.accuracy:.3f} for {plural(self.waited, 'epoch')}"
        )


def fitted_rate(batch: int, steps: int) -> float:
    """Return the peak rate of SGD for a run of ``steps`` in batches of so many samples.

    That of a long run, times the square root of the part that this one has of LONG_STEPS, times
    the part that its batches have of LONG_BATCH; results/little-data.txt has what was tried. Two
    figures of it, as a person would give them.
    """
    rate = LONG_RATE * min(1.0, steps / LONG_STEPS) ** 0.5 * min(1.0, batch / LONG_BATCH)
    return float(f"{rate:.2g}")


def warmup_steps(recipe: ScheduleRecipe, steps: int, batches: int) -> int:
    """Return the length of the warm-up in a run of ``steps``, ``batches`` of them an epoch."""
    least = max(recipe.warmup_steps, round(recipe.warmup_epochs * batches))
    return max(round(recipe.warmup * steps), min(least, steps // 2))


class Schedule:
    """The learning rate of a run of ``steps``, ``batches`` an epoch, with the peak ``peak``.

    It has the peak for ``head`` steps, in which the classifier learns alone; then all else begins.
    """

    def __init__(
        self,
        recipe: ScheduleRecipe,
        peak: float,
        steps: int,
        memory: RateMemory,
        batches: int = 1,
        head: int = 0,
    ) -> None:
        self.recipe, self.peak, self.memory = recipe, peak, memory
        self.batches, self.head = batches, min(head, steps)
        self.steps = steps - self.head

    def rate(self, step: int) -> float:
        """Return the rate of step ``step``, counted from 0.

        Warm-up rises linearly to the peak, or stays at a fixed part of it; then ``steps`` stays and
        drops at the milestones, ``cosine`` and ``linear`` fall until the end of the run. What the
        plateau has taken off comes on top.
        """
        if self.recipe.interval == "epoch":
            step = step // self.batches * self.batches
        rate = self._shape(step - self.head) if step >= self.head else self.peak
        return max(rate * self.memory.scale, min(self.recipe.plateau_floor, rate))

    def after_step(self, samples: int, correct: int) -> None:
        """Count a step's samples and correct answers towards the end of the warm-up by error."""
        limit, memory = self.recipe.warmup_until_error, self.memory
        if limit is None or memory.warm:
            return
        memory.samples += samples
        memory.correct += correct
        memory.steps += 1
        memory.warm_steps += 1
        if memory.steps == WINDOW:
            memory.warm = memory.samples - memory.correct < limit * memory.samples
            memory.samples = memory.correct = memory.steps = 0

    def after_epoch(self, held_out_loss: float | None) -> None:
        """Lower the rate if the held-out loss has not fallen for long, as Keras does."""
        factor, memory = self.recipe.plateau_factor, self.memory
        if factor is None or held_out_loss is None:
            return
        if held_out_loss < (inf if memory.best is None else memory.best) - MIN_DELTA:
            memory.best, memory.waited = held_out_loss, 0
            return
        memory.waited += 1
        if memory.waited >= self.recipe.plateau_patience:
            memory.scale *= factor
            memory.waited = 0

    def _shape(self, step: int) -> float:
        recipe, peak = self.recipe, self.peak
        if recipe.warmup_until_error is None:
            warmup = warmup_steps(recipe, self.steps, self.batches)
            warming = step < warmup
        else:
            warmup, warming = self.memory.warm_steps, not self.memory.warm
        if warming:
            if recipe.warmup_rate is not None:
                return peak * recipe.warmup_rate
            if recipe.warmup_from is not None:
                return peak * (recipe.warmup_from + (1 - recipe.warmup_from) * step / warmup)
            return peak * (step + 1) / warmup
        if recipe.shape == "steps":
            drops = sum(step >= milestone * self.steps for milestone in recipe.milestones)
            if isinstance(recipe.factor, tuple):
                return peak * (1.0, *recipe.factor)[drops]
            return peak * recipe.factor**drops
        start = warmup if recipe.shape_from == "warmup" else 0
        done = (step - start) / (self.steps - start)
        left = 0.5 * (1 + cos(pi * done)) if recipe.shape == "cosine" else 1 - done
        return peak * (recipe.end + (1 - recipe.end) * left)


def image_size(augment: AugmentRecipe, full: int, step: int, steps: int) -> int:
    """Return the side in pixels of the training images of step ``step``.

    Every size from ``first_size`` to below ``full`` lasts as long; ``full`` follows.
    """
    growing = round(augment.full_size_from * steps)
    if augment.first_size is None or augment.first_size >= full or step >= growing:
        return full
    sizes = range(augment.first_size, full, augment.size_step)
    return sizes[step * len(sizes) // growing]
