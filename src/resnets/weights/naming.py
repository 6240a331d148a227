"""Read and write keys with the tables of `dialects`; find out which dialect keys are written in."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import product
from typing import Any

from resnets.errors import CheckpointError, UsageError, nearest
from resnets.spec import Spec, fields_told
from resnets.weights.dialects import ANY, BY_NAME, DIALECTS, Dialect, Input, Kind, Row

Shapes = Mapping[str, Sequence[int]]
Situation = Mapping[str, int]

_DIMENSIONS: dict[Kind, tuple[int, ...]] = {"conv": (3, 4), "norm": (1,), "linear": (2, 4)}
_STAGE = re.compile(r"layer(\d+)\.\d+\.conv\d\.")


@dataclass(frozen=True)
class Reading:
    """Keys in terms of ours: ``names`` is {our key: their key}."""

    dialect: Dialect
    names: dict[str, str]
    unexpected: tuple[str, ...]
    hints: dict[str, Any]  # fields of the spec that the dialect proves
    input: Input | None  # what the net's images were, where the dialect says


def dialect_named(name: str) -> Dialect:
    """Return a dialect. Raises UsageError, naming the nearest, for an unknown one."""
    if name not in BY_NAME:
        close = nearest(name, list(BY_NAME))
        raise UsageError(
            f'no dialect is called "{name}"',
            hint=f"did you mean {close}?" if close else f"choose from {', '.join(BY_NAME)}",
        )
    return BY_NAME[name]


def detect(keys: Iterable[str], shapes: Shapes | None = None) -> Reading:
    """Return the reading in the dialect that explains most of the keys.

    ``shapes``, where known, tell convolutions from norms. Dialects that read the keys alike are
    one: the first. Raises CheckpointError when none explains them or two do in different ways.
    """
    keys = list(keys)
    readings = [reading for d in DIALECTS if (reading := read(keys, d, shapes)) is not None]
    if not readings:
        some = ", ".join(f'"{key}"' for key in keys[:3])
        raise CheckpointError(
            f"its {len(keys)} keys are no residual network's in any known dialect: {some}",
            hint=f"known dialects are {', '.join(BY_NAME)}",
        )
    most = max(len(reading.names) for reading in readings)
    best = [reading for reading in readings if len(reading.names) == most]
    if any(reading.names != best[0].names for reading in best):
        names = " or ".join(reading.dialect.name for reading in best)
        raise CheckpointError(
            f"its keys can be read as {names}, with different results",
            hint=f'say which it is: dialect="{best[0].dialect.name}"',
        )
    return best[0]


def read(keys: Iterable[str], dialect: Dialect, shapes: Shapes | None = None) -> Reading | None:
    """Return the reading of keys in one dialect; None where they show no block of a network."""
    keys, shapes = list(keys), shapes or {}
    candidates = {key: found for key in keys if (found := _candidates(key, dialect, shapes))}
    situation, names = _best(candidates, dialect)
    if not any(map(_STAGE.match, names)):
        return None
    seen = signs(names, shapes, dialect, situation)
    if dialect.stages and seen["stages"] not in dialect.stages:
        return None
    proofs = [p for p in dialect.proves if all(seen[sign] == v for sign, v in p.when.items())]
    used = set(names.values())
    return Reading(
        dialect,
        names,
        tuple(key for key in keys if key not in used),
        {name: value for proof in proofs for name, value in proof.fields.items()},
        next((proof.input for proof in proofs if proof.input), None),
    )


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
        "pool": int(spec.shortcut == "D"),
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
    projects = spec.shortcut in ("B", "C", "D")
    irrelevant = {
        *fields_told("size", "free"),
        *(() if spec.block == "bottleneck" else ("bottleneck_stride",)),
        *(() if spec.shortcut == "A" else ("zero_pad",)),
        *(() if projects and not spec.preactivated else ("projection_norm",)),
        *(() if projects and preactivation else ("projection_input",)),
        *(() if preactivation and not first_projects else ("first_shortcut_input",)),
        *(() if spec.attention == "se" else ("attention_reduction",)),
        *(("stem_pool",) if spec.stem == "3x3" else ()),
    }
    result = {f.name: getattr(spec, f.name) for f in fields(Spec) if f.name not in irrelevant}
    if spec.norm == "frozen_batch":
        result["norm"] = "batch"
    return {**result, "stages": len(spec.depths), "grouped": spec.groups > 1}


def signs(
    names: Mapping[str, str], shapes: Shapes, dialect: Dialect, situation: Situation
) -> dict[str, Any]:
    """Return what keys and shapes show of a net, as far as proofs ask for it; None for unknown."""

    def shape(ours: str) -> Sequence[int]:
        return shapes.get(names.get(ours, ""), ())

    grouped, kernel = None, None
    one, three = shape("layer1.0.conv1.weight"), shape("layer1.0.conv2.weight")
    if one and three:
        grouped = three[1] != one[0]
    if stem := shape("conv1.weight"):
        kernel = stem[2]
    downsample = [key for key in names if ".downsample." in key]
    return {
        "biased": any(".conv" in key and key.endswith(".bias") for key in names),
        "block": "bottleneck" if any(".conv3." in key for key in names) else "basic",
        "grouped": grouped,
        "projects": bool(downsample),
        "first_projects": any(key.startswith("layer1.0.") for key in downsample),
        "pre": situation.get("pre", int("norm.weight" in names)),
        "stem": f"{kernel}x{kernel}" if kernel else None,
        "stages": max(int(match[1]) for key in names if (match := _STAGE.match(key))),
    }


@dataclass(frozen=True)
class _Pattern:
    """A row as regular expressions of whole keys: a module and, in the group "leaf", its part."""

    row: Row
    ours: re.Pattern[str]
    theirs: re.Pattern[str]
    prefix: str
    endings: dict[str, str]  # our leaf -> their ending
    leaves: dict[str, str]  # their ending -> our leaf


@cache
def _patterns(name: str) -> list[_Pattern]:
    dialect = BY_NAME[name]
    result = []
    for row in dialect.rows:
        endings = dict(dialect.leaves[row.kind])
        leaves = {ending: leaf for leaf, ending in endings.items()}
        prefix = "" if row.kind == "linear" else dialect.prefix
        ours, theirs = ("|".join(map(re.escape, part)) for part in (endings, leaves))
        result.append(
            _Pattern(
                row,
                re.compile(rf"{row.ours.pattern}\.(?P<leaf>{ours})"),
                re.compile(rf"(?:{re.escape(prefix)})?{row.theirs.pattern}(?P<leaf>{theirs})"),
                prefix,
                endings,
                leaves,
            )
        )
    return result


def _situations(dialect: Dialect) -> Iterator[Situation]:
    names = dialect.situations
    return (dict(zip(names, values, strict=True)) for values in product((0, 1), repeat=len(names)))


def _holds(row: Row, situation: Situation) -> bool:
    return all(situation[name] == value for name, value in row.when.items())


Candidate = tuple[_Pattern, dict[str, int], str]  # a row that fits, its numbers, our leaf


def _candidates(key: str, dialect: Dialect, shapes: Shapes) -> list[Candidate]:
    """Return the rows that a key of theirs fits."""
    result = []
    for pattern in _patterns(dialect.name):
        if match := pattern.theirs.fullmatch(key):
            leaf = pattern.leaves[match["leaf"]]
            numbers = pattern.row.theirs.numbers(match.groupdict())
            fits = key not in shapes or _plausible(len(shapes[key]), pattern.row.kind, leaf)
            if numbers is not None and fits:
                result.append((pattern, numbers, leaf))
    return result


def _plausible(dimensions: int, kind: Kind, leaf: str) -> bool:
    if leaf == "num_batches_tracked":
        return dimensions < 2
    return dimensions in (_DIMENSIONS[kind] if leaf == "weight" else (1,))


def _best(
    candidates: Mapping[str, list[Candidate]], dialect: Dialect
) -> tuple[Situation, dict[str, str]]:
    """Return the situation in which most keys are explained, and {our key: their key} in it."""
    possible = [
        (situation, fitting)
        for situation in _situations(dialect)
        if (fitting := _fitting(candidates, situation))
    ]
    best: tuple[Situation, dict[str, str]] = ({}, {})
    for situation, fitting in sorted(possible, key=lambda each: -len(each[1])):
        if len(fitting) > len(best[1]):
            names = _names(fitting, dialect, situation)
            best = max(best, (situation, names), key=lambda each: len(each[1]))
    return best


def _fitting(
    candidates: Mapping[str, list[Candidate]], situation: Situation
) -> dict[str, list[Candidate]]:
    """Return the candidates whose rows are there in a situation."""
    pool = situation.get("pool")
    result = {}
    for key, found in candidates.items():
        fitting = [
            candidate
            for candidate in found
            if _holds(candidate[0].row, situation) and candidate[1].get("pool", pool) == pool
        ]
        if fitting:
            result[key] = fitting
    return result


def _names(
    candidates: Mapping[str, list[Candidate]], dialect: Dialect, situation: Situation
) -> dict[str, str]:
    """Return {our key: their key} in one situation."""
    names: dict[str, str] = {}
    for key, found in candidates.items():
        for pattern, numbers, leaf in found:
            ours = f"{pattern.row.ours.fill({**numbers, **situation})}.{leaf}"
            # A row is good for reading where it is the one that would be written.
            written = key if pattern.row.alias else _their_key(ours, dialect, situation)
            if written in (key, pattern.prefix + key) and ours not in names:
                names[ours] = key
                break
    return names


def _their_key(ours: str, dialect: Dialect, situation: Situation) -> str | None:
    for pattern in _patterns(dialect.name):
        row = pattern.row
        match = pattern.ours.fullmatch(ours)
        if not match or row.alias or not _holds(row, situation):
            continue
        numbers = row.ours.numbers(match.groupdict())
        if numbers is None or numbers.get("pool", situation.get("pool")) != situation.get("pool"):
            continue
        module = row.theirs.fill({**situation, **numbers})
        return f"{pattern.prefix}{module}{pattern.endings[match['leaf']]}" if module else None
    return None


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
