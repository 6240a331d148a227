"""The page of a search: its trials, and what each setting did to them."""

import json
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from resnets.formatting import percent, plural
from resnets.report import svg
from resnets.report.plots import Key, Plot, style_axes
from resnets.report.style import write_page
from resnets.run_folder.trials import Search, SearchFolder, Trial

_WIDTH, _HEIGHT = 370, 240


def write_search_page(folder: SearchFolder, search: Search, command: str) -> None:
    """Write the page of a search as it stands; ``command`` trains with its best settings."""
    best = search.best
    title = f"{plural(len(search.trials), 'trial')} of {search.model} on {search.data}"
    if best:
        title += f": at best {percent(best.score, 2)} held-out {search.measure}"
    keys = list(search.space)
    ranked = sorted(
        search.trials, key=lambda t: (t.status != "finished", -(t.score or 0), t.loss or 0)
    )
    measured = [trial for trial in search.trials if trial.score is not None]
    plots = [_history(measured, search.measure)] if measured else []
    plots += [_scatter(key, search.space[key], measured) for key in keys if measured]
    given = best.settings if best else {}
    write_page(
        folder.report,
        "search.html",
        title=title,
        best=best,
        keys=keys,
        trials=[(trial, [_value(trial.settings.get(k)) for k in keys]) for trial in ranked],
        given=[(key, _value(given.get(key)), search.space[key]) for key in keys],
        plots=plots,
        command=command,
    )


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _axes(figure: Figure, label: str) -> Any:
    axes = figure.add_axes((48 / _WIDTH, 40 / _HEIGHT, 1 - 60 / _WIDTH, 1 - 52 / _HEIGHT))
    style_axes(axes, label)
    return axes


def _finish(axes: Any, trials: list[Trial]) -> None:
    values = [100 * (trial.score or 0) for trial in trials]
    room = max(1.0, 0.08 * (max(values) - min(values)))
    axes.set_ylim(min(values) - room, min(100.5, max(values) + room))


def _points(axes: Any, places: list[float], trials: list[Trial]) -> tuple[Key, ...]:
    """Draw each trial as a point, and return the legend."""
    keys = []
    for colour, dash, finished in ((0, "solid", True), (1, "dotted", False)):
        some = [
            (x, 100 * (trial.score or 0))
            for x, trial in zip(places, trials, strict=True)
            if (trial.status == "finished") == finished
        ]
        if some:
            axes.plot(
                [x for x, _ in some],
                [y for _, y in some],
                "o" if finished else "x",
                color=svg.SERIES[colour],
                markersize=6,
                clip_on=False,
            )
            name = "finished" if finished else "not finished"
            keys.append(Key(name, svg.VARIABLES[svg.SERIES[colour]], dash))
    return tuple(keys)


def _history(trials: list[Trial], measure: str) -> Plot:
    """Draw what the trials came to, one after another, and the best so far."""
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
    axes = _axes(figure, "trial")
    numbers = [float(trial.name.rpartition("-")[2]) for trial in trials]
    best, so_far = 0.0, []
    for trial in trials:
        best = max(best, trial.score or 0) if trial.status == "finished" else best
        so_far.append(100 * best)
    begun = [i for i, value in enumerate(so_far) if value]
    axes.plot(
        [numbers[i] for i in begun],
        [so_far[i] for i in begun],
        color=svg.SERIES[0],
        drawstyle="steps-post",
        linewidth=1.5,
    )
    keys = _points(axes, numbers, trials)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    _finish(axes, trials)
    told = f"Held-out {measure} of {plural(len(trials), 'trial')}; at best {percent(best, 2)}."
    return Plot(f"Held-out {measure}, %", svg.inline(figure, "history", told), keys)


def _scatter(key: str, text: str, trials: list[Trial]) -> Plot:
    """Draw what the trials came to over the values of a setting."""
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
    axes = _axes(figure, "")
    values = [trial.settings.get(key) for trial in trials]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if ".." in text and len(numbers) == len(values):
        if text.endswith(":log") and min(numbers) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        places = [float(number) for number in numbers]
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        names = sorted({_value(value) for value in values})
        places = [float(names.index(_value(value))) for value in values]
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_xticks(range(len(names)), names, parse_math=False)
    _points(axes, places, trials)
    _finish(axes, trials)
    told = f"What {plural(len(trials), 'trial')} came to over {key}, {text}."
    return Plot(key, svg.inline(figure, key.replace(".", "-"), told))
