"""What a search tries next, by Optuna; and which trials are not worth their end.

A proposal is a function of the seed, its number and the trials before it: there is no state of a
sampler to keep.
"""

import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from resnets.errors import lacking
from resnets.run_folder.trials import Trial
from resnets.training.space import Choice, Range, Space

GRACE = 0.25  # of a trial's epochs, before it may be given up
FEWEST = 4  # finished trials, before one is compared with them


def propose(space: Space, trials: Sequence[Trial], seed: int) -> dict[str, Any]:
    """Return the settings of the trial after these, by the Tree-structured Parzen Estimator.

    (Bergstra et al. 2011; Optuna's, over all settings together.) At first they are drawn at random.
    Raises ResourceError where Optuna is not installed.
    """
    check_installed()
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    def distribution(values: Range | Choice) -> BaseDistribution:
        if isinstance(values, Choice):
            return CategoricalDistribution(range(len(values.values)))  # which may be lists
        if values.whole:
            return IntDistribution(int(values.low), int(values.high), log=values.log)
        return FloatDistribution(values.low, values.high, log=values.log)

    distributions = {key: distribution(values) for key, values in space.items()}
    drawn = np.random.SeedSequence([seed, len(trials)]).generate_state(1)
    sampler = optuna.samplers.TPESampler(seed=int(drawn[0]), n_startup_trials=2 * len(space))
    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in trials:
            # What the recipe says by itself may lie outside; what is refused tells nothing.
            if trial.status != "refused" and all(
                key in trial.settings and trial.settings[key] in space[key] for key in space
            ):
                finished = trial.status == "finished"
                study.add_trial(
                    optuna.trial.create_trial(
                        state=optuna.trial.TrialState[("PRUNED", "COMPLETE")[finished]],
                        value=trial.score if finished else None,
                        params={k: _told(space[k], trial.settings[k]) for k in space},
                        distributions=distributions,
                        intermediate_values=dict(enumerate(trial.epochs, start=1)),
                    )
                )
        asked = study.ask(distributions).params
    finally:
        optuna.logging.set_verbosity(said)
    return {key: _meant(space[key], asked[key]) for key in space}


def check_installed() -> None:
    """Raise ResourceError where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise lacking("a search takes Optuna", "tune")


def _told(values: Range | Choice, value: Any) -> Any:
    return values.values.index(value) if isinstance(values, Choice) else value


def _meant(values: Range | Choice, asked: Any) -> Any:
    if isinstance(values, Choice):
        return values.values[asked]
    return asked if values.whole else values.nearest(asked)


def falls_behind(scores: Sequence[float], epochs: int, others: Sequence[Trial]) -> bool:
    """Whether a trial of so many epochs has fallen behind: its best is below the others' median.

    ``scores`` are those after its epochs so far; of others those count that have finished, at
    the same epoch (Golovin et al. 2017, as Optuna has it). The first quarter of the epochs and the
    first trials are let be, and so is a last epoch.
    """
    done = len(scores)
    if done >= epochs or done <= GRACE * epochs:
        return False
    then = [t.epochs[done - 1] for t in others if t.status == "finished" and len(t.epochs) >= done]
    return len(then) >= FEWEST and max(scores) < statistics.median(then)
