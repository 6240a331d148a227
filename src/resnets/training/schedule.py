"""The learning rate of each step, as pure functions."""

from math import cos, pi

from resnets.training.recipe import ScheduleRecipe


def learning_rate(schedule: ScheduleRecipe, peak: float, step: int, steps: int) -> float:
    """Return the rate of step ``step`` (counted from 0) of a run of ``steps``.

    Warm-up rises linearly to the peak, which its last step reaches; then ``steps`` stays and drops
    at the milestones, ``cosine`` and ``linear`` fall to zero at the end of the run.
    """
    warmup = round(schedule.warmup * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule.shape == "steps":
        drops = sum(step >= milestone * steps for milestone in schedule.milestones)
        return peak * schedule.factor**drops
    done = (step - warmup) / (steps - warmup)
    return peak * (0.5 * (1 + cos(pi * done)) if schedule.shape == "cosine" else 1 - done)
