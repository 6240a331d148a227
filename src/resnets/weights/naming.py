"""Read and write keys with the tables of `dialects`; find out which dialect keys are written in."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from resnets.errors import CheckpointError
from resnets.spec import POOLING, PROJECTING, Spec, fields_told
from resnets.weights.dialects import ANY, BY_NAME, DIALECTS, Dialect
from resnets.weights.structure.aligning import with_pooling
from resnets.weights.structure.tensor_modules import bare

Shapes = Mapping[str, Sequence[int]]
Situation = Mapping[str, int]

_STAGE = re.compile(r"layer(\d+)\.\d+\.conv\d\.")
_PLACE = re.compile(r"\{(\w+)([+-]\d+)?(?:\|([\w,]+))?\}")  # in names of `dialects`


def recognise(
    names: Mapping[str, str], shapes: Shapes, dialect: str | None = None
) -> tuple[Dialect | None, dict[str, str]]:
    """Return the dialect that has these names, {our key: their key}, and the names as it has them.

    It is the one named, or the first that would write exactly these names, whatever stands before
    them; of two that differ only in the classifier's, the one that has that too. Raises
    CheckpointError for a dialect that has other names.
    """
    best: tuple[int, Dialect, dict[str, str]] | None = None
    for candidate in [BY_NAME[dialect]] if dialect else DIALECTS:
        for situation, ours in _ways(candidate, names, shapes):
            alike = _agreeing(ours, candidate, situation)
            if alike is not None and (best is None or alike > best[0]):
                best = alike, candidate, ours
    if best is None and dialect:
        raise CheckpointError(
            f'its keys are no residual network\'s in the dialect "{dialect}"',
            hint="leave the dialect out: a file is read whatever its names are",
        )
    return best[1:] if best else (None, dict(names))


def _ways(
    dialect: Dialect, names: Mapping[str, str], shapes: Shapes
) -> Iterator[tuple[Situation, dict[str, str]]]:
    """Yield what names show of a net: as they are, then with a pooling before its projections.

    That one stands there some dialects do not say in the projections' names.
    """
    stages = {int(match[1]) for key in names if (match := _STAGE.match(key))}
    if dialect.stages and max(stages) not in dialect.stages:
        return
    situation = {"deep": int("conv1.0.weight" in names), "pre": int("norm.weight" in names)}
    pooled = any(
        key.endswith(".downsample.1.weight") and len(shapes[theirs]) == 4
        for key, theirs in names.items()
    )
    yield {**situation, "pool": int(pooled)}, dict(names)
    if not pooled:
        parts = ((*ours.rpartition("."), theirs) for ours, theirs in names.items())
        moved = {f"{with_pooling(module)}.{leaf}": theirs for module, _, leaf, theirs in parts}
        yield {**situation, "pool": 1}, moved


def _agreeing(names: Mapping[str, str], dialect: Dialect, situation: Situation) -> int | None:
    """Return how many names a dialect writes so, None where one of the backbone's is another.

    What stands before the names is the same for all, but for the classifier's.
    """
    count, before = 0, None
    for ours, theirs in names.items():
        theirs = bare(theirs)
        written = _their_key(ours, dialect, situation)
        if ours.startswith("fc."):
            outside = (before or "").removesuffix(dialect.prefix)
            count += theirs in (f"{outside}{written}", f"{before}{written}")
            continue
        if written is None:
            if _is_stored(ours, dialect):
                return None
            continue
        written = written.removeprefix(dialect.prefix)
        prefix = theirs.removesuffix(written)
        before = prefix if before is None else before
        if not theirs.endswith(written) or prefix != before or prefix[-1:] not in ("", "."):
            return None
        count += 1
    return count


def write(our_keys: Iterable[str], dialect: Dialect, spec: Spec) -> dict[str, str]:
    """Return {our key: their key}, without what the dialect does not store.

    Raises CheckpointError, with the reason, for a net that the dialect cannot hold.
    """
    if reason := refusal(spec, dialect):
        raise CheckpointError(
            f"{dialect.name} cannot hold {spec.name}: {reason}",
            hint='the dialect "native" holds every net',
        )
    situation = {
        "deep": int(spec.stem.startswith("deep")),
        "pre": int(spec.activation_order == "preactivation"),
        "pool": int(spec.shortcut in POOLING),
    }
    result = {}
    for key in our_keys:
        theirs = _their_key(key, dialect, situation)
        if theirs is not None:
            result[key] = theirs
        elif _is_stored(key, dialect):
            raise CheckpointError(
                f"{dialect.name} has no name for {key}",
                hint='the dialect "native" has one for everything',
            )
    return result


def refusal(spec: Spec, dialect: Dialect) -> str:
    """Return why a dialect cannot hold a net; empty where it can."""
    if not dialect.holds:
        return ""
    choices = traits(spec)
    attempts = [_conflicts(choices, held) for held in dialect.holds]
    closest = min(attempts, key=lambda conflicts: ("activation_order" in conflicts, len(conflicts)))
    return "; ".join(closest.values())


def traits(spec: Spec) -> dict[str, Any]:
    """Return the choices that decide which function a net's weights compute.

    Sizes, which keys and shapes show, are left out, and so are choices that the others make
    irrelevant, such as where a bottleneck's stride is in a net of basic blocks.
    """
    preactivation = spec.activation_order == "preactivation"
    first_projects = spec.channels[0] != spec.stem_width or spec.shortcut == "C"
    projects = spec.shortcut in PROJECTING
    irrelevant = {
        *fields_told("size", "free"),
        *(() if spec.block == "bottleneck" else ("bottleneck_stride",)),
        *(() if spec.shortcut == "A" else ("zero_pad",)),
        *(() if projects and not spec.preactivated else ("projection_norm",)),
        *(() if projects else ("projection_size",)),
        *(() if projects and preactivation else ("projection_input",)),
        *(() if preactivation and not first_projects else ("first_shortcut_input",)),
        *(() if spec.attention == "se" else ("attention_reduction",)),
        *(("stem_pool",) if spec.stem == "3x3" else ()),
    }
    result = {f.name: getattr(spec, f.name) for f in fields(Spec) if f.name not in irrelevant}
    if spec.norm == "frozen_batch":
        result["norm"] = "batch"
    return {**result, "stages": len(spec.depths), "grouped": spec.groups > 1}


@cache
def _pattern(name: str) -> re.Pattern[str]:
    """Return the regular expression of a name of ours, whose groups are its places."""
    return re.compile(_PLACE.sub(r"(?P<\1>0|[1-9][0-9]{0,4})", name.replace(".", r"\.")))


def _their_key(ours: str, dialect: Dialect, situation: Situation) -> str | None:
    module, _, leaf = ours.rpartition(".")
    for row in dialect.rows:
        match, ending = _pattern(row.ours).fullmatch(module), dialect.leaves[row.kind].get(leaf)
        if not match or ending is None or any(situation[n] != v for n, v in row.when.items()):
            continue
        places = _PLACE.findall(row.ours)
        numbers = {name: int(match[name]) - int(shift or 0) for name, shift, _ in places}
        if numbers.get("pool", situation.get("pool")) != situation.get("pool"):
            continue
        prefix = "" if row.kind == "linear" else dialect.prefix
        return f"{prefix}{_filled(row.theirs, {**situation, **numbers})}{ending}"
    return None


def _filled(name: str, numbers: Mapping[str, int]) -> str:
    """Return a name with numbers, or their words, in its places."""

    def number(place: re.Match[str]) -> str:
        value, words = numbers[place[1]], place[3]
        return words.split(",")[value - 1] if words else str(value + int(place[2] or 0))

    return _PLACE.sub(number, name)


def _is_stored(key: str, dialect: Dialect) -> bool:
    """Tell whether a dialect stores such a part of a module at all; counters are often left out."""
    leaf = key.rpartition(".")[2]
    return any(leaf in endings for endings in dialect.leaves.values())


def _conflicts(choices: Mapping[str, Any], held: Mapping[str, tuple[Any, ...]]) -> dict[str, str]:
    """Return, in words, which of a net's choices are not among those that a dialect holds."""
    result = {}
    for name, value in choices.items():
        allowed = held.get(name)
        if allowed is None and name in Spec.__dataclass_fields__:
            allowed = (Spec.__dataclass_fields__[name].default,)
        if allowed not in (None, ANY) and value not in allowed:
            result[name] = f"its {name} is {value}, not {' or '.join(map(str, allowed))}"
    return result
