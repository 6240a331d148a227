"""Models measured beside their peers: jobs in, plain data and a table out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from harness.load import Load, Share
from harness.peers import installed
from harness.rounds import Rounds, interleave
from harness.statistics import (
    SAME,
    interval,
    margin,
    paired_ratios,
    unrest,
    verdict,
)
from resnets.formatting import moment, percent, plural, speed
from resnets.machine.environment import environment
from resnets.machine.processes import ALONE
from resnets.training.throughput import Call, Job, Measure, ours, spread, timed

SCHEMA_VERSION = 1
GFLOP = 2 * 1.024**3  # of the yardstick
SECONDS = 0.5  # at least, of one measurement
OTHERS = (  # packages
    *("torchvision", "timm", "onnxruntime", "openvino", "keras", "tensorflow"),
    *("webdataset", "nvidia.dali", "simplejpeg"),
)
HEADING = ("", "img/s", "quartiles", "ratio", "quartiles", "")


def compare(
    jobs: Iterable[Job],
    *,
    rounds: int,
    peers: Callable[[Job, Path], Mapping[str, Callable[[], Call]]] = installed,
    seconds: float = SECONDS,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """Yield for each job what `summarise` makes of our case and its ``peers``.

    All cases of a job are in this process: they share its threads, its allocator, and what
    `resnets.machine.cpu` has settled for them.
    """
    with TemporaryDirectory() as folder:
        for job in jobs:
            say(f"{job.title}: {plural(rounds, 'round')}")
            calls = {"resnets": partial(ours, job), **peers(job, Path(folder))}
            cases = {
                name: partial(_timed, prepare, job, seconds) for name, prepare in calls.items()
            }
            about = {"title": job.title, "model": job.spec.name, "work": job.work}
            sizes = {"batch_size": job.batch_size, "image_size": job.spec.image_size}
            yield {**about, **sizes, **summarise(*measure(cases, rounds, say))}


def _timed(prepare: Callable[[], Call], job: Job, seconds: float) -> Measure:
    return timed(prepare(), job.batch_size, seconds=seconds)


def measure(
    cases: Mapping[str, Callable[[], Measure]],
    rounds: int,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Rounds, Share | None]:
    """Return the cases' rounds, a product of matrices between them, and what others took."""
    yardstick = timed(matrix_product(), GFLOP, seconds=SECONDS / 4)
    before = Load.now()
    found = interleave(cases, rounds, yardstick=yardstick, say=say)
    after = Load.now()
    return found, before.until(after) if before and after else None


def matrix_product() -> Call:
    """Return the yardstick: a product of two matrices, GFLOP of arithmetic."""
    a = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
    return lambda: a @ a


def summarise(found: Rounds, share: Share | None) -> dict[str, Any]:
    """Return what the rounds say as JSON-able values; ratios are to the first case that ran."""
    first = next(iter(found.rates), None)
    if first is None:
        return {"cases": [], "failed": found.failed, "machine": None}
    restless = unrest(found.yardsticks)
    limit = margin(restless, share.taken if share else None)
    gflops = [value for values in found.yardsticks for value in values]
    cases = []
    for name, rates in found.rates.items():
        case: dict[str, Any] = {"name": name, "rates": rates, "rate": asdict(spread(rates))}
        if name != first:
            ratios = paired_ratios(rates, found.rates[first])
            case |= {"ratio": asdict(spread(ratios)), "interval": interval(ratios)}
            case["verdict"] = verdict(ratios, limit)
        cases.append(case)
    machine = {
        "gflops": median(gflops),
        "unrest": restless,
        **({"stolen": share.stolen, "others": share.others} if share else {}),
        "margin": limit,
        "noisy": limit > SAME,
    }
    return {"cases": cases, "failed": found.failed, "machine": machine}


def table(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a result's rows under HEADING; what failed has one without figures."""
    rows = []
    for case in result["cases"]:
        rates, ratio = case["rate"], case.get("ratio")
        row = (case["name"], speed(rates["median"]), _between(rates, speed))
        if ratio is None:
            rows.append((*row, "1", "", ""))
        else:
            rows.append((*row, _two(ratio["median"]), _between(ratio, _two), case["verdict"]))
    return rows + [(name, "–", "", "", "", why) for name, why in result["failed"].items()]


def _between(values: Mapping[str, float], write: Callable[[float], str]) -> str:
    return f"{write(values['low'])} to {write(values['high'])}"


def _two(value: float) -> str:
    return f"{value:.2f}"


def machine_line(result: Mapping[str, Any]) -> str:
    """Return in words how quiet the machine was, and which differences it could not tell."""
    machine = result["machine"]
    if machine is None:
        return "nothing was measured"
    parts = [f"a fixed product of matrices differed by {percent(machine['unrest'])} within a round"]
    if "others" in machine:
        parts.append(f"other processes took {percent(machine['others'])} of the processors' time")
        parts.append(f"the host {percent(machine['stolen'])}")
    state = "noisy" if machine["noisy"] else "quiet enough"
    bound = f"differences under {percent(machine['margin'])} cannot be told"
    return f"machine {state}: {', '.join(parts)}; {bound}"


def timestamp() -> str:
    """Return the time as records have it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def about(jobs: Sequence[Mapping[str, Any]], rounds: int, started: str) -> dict[str, Any]:
    """Return results with all that a reader needs to judge them."""
    return {
        "schema_version": SCHEMA_VERSION,
        "started": started,
        "ended": timestamp(),
        "rounds": rounds,
        "environment": environment(torch.device("cpu"), ALONE, "float32") | _versions(),
        "results": [*jobs],
    }


def environment_line(report: Mapping[str, Any]) -> str:
    """Return in words what was measured on, with what, and when."""
    seen = report["environment"]
    names = ("resnets", "torch", *OTHERS, "python")
    versions = ", ".join(f"{name} {seen[name]}" for name in names if name in seen)
    kind = " ".join(filter(None, (seen["processor"], seen["instructions"])))
    where = f"{kind}, {plural(seen['threads'], 'thread')}"
    return f"{moment(report['started'])}; {where}; {versions}"


def _versions() -> dict[str, str]:
    found = {}
    for name in OTHERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
