"""evaluate(): models of any kind on labelled images of any kind, each counted once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from resnets.data.class_words import ClassWords, read_class_words
from resnets.data.preprocess import preprocess_of
from resnets.errors import UsageError
from resnets.evaluation.assessment import Assessment
from resnets.evaluation.averaged import Averaged, carried_out
from resnets.evaluation.choice import Choice, Chosen
from resnets.evaluation.collected import Scores, answer
from resnets.evaluation.ensemble import check_alike, together
from resnets.evaluation.kept import Kept
from resnets.evaluation.protocols import Protocol, asked
from resnets.evaluation.scores import Evaluation
from resnets.inference.prediction import resolved
from resnets.inference.runtimes import Runtime, check_reading
from resnets.report.comparison import distinct
from resnets.run_folder.directory import seeds_in
from resnets.weights.outputs import meaning

if TYPE_CHECKING:  # torch is imported where a model needs it
    from resnets.models import ReadingOptions
    from resnets.nn import ResNet

    Model = ResNet | Runtime | str | Path

Progress = Callable[[int, int], None]
MOST = 1 << 28  # logits of one model that are kept where nothing but metrics needs them, a gigabyte


def evaluate(
    models: "Model | Sequence[Model]",
    data: str | Path,
    *,
    split: str | None = None,
    root: str | Path | None = None,
    device: str = "auto",
    home: str | Path | Sequence[str | Path] | None = None,
    class_names: str | Path | None = None,
    out: str | Path | None = None,
    protocol: str | Protocol | None = None,
    size: int | None = None,
    resize: int | None = None,
    crop_fraction: float | None = None,
    crops: int | None = None,
    scales: Sequence[int] = (),
    tta: bool = False,
    on_progress: Progress = lambda done, total: None,
    **reading: Unpack["ReadingOptions"],
) -> Assessment:
    """Measure a model on labelled images: a data set's name, or a folder with class folders.

    ``models`` is a network, a run folder, weights or an exported file, or what
    `resnets.inference.runtimes.open_runtime` returns; exported files do without torch where their
    runtime does. Several of them are measured on the same images, and so is what they answer
    together: the mean of their probabilities. Then ``members`` has each of them, compared with the
    first. A folder of several seeds stands for its runs.

    Labels are by name. Where the model's file names no classes, folders that are
    numbers are its outputs, and as many classes as outputs are taken in their order, which
    ``notes`` then say. Classes that the model does not have, those without images and broken
    images are counted.
    ``split`` names the part: train, validation or test; left out, it is the last one there is. On
    the data that a model was trained on, the parts are those of its run, the held-out one included;
    a folder without parts is taken whole, as "all". ``root`` is where CIFAR's files are; ``device``
    is where torch computes. ``home`` is the run folder of a model that is given opened, where the
    images that it was trained on are listed, or one for each of several.

    ``class_names`` is a file of words for names of classes, such as synsets (docs/evaluation.md): a
    class of the data may be called by either, and so are a model's outputs that have no names.

    ``out`` is a folder for evaluation.json, a page and what each model has answered: a model that
    was measured there already, on the same images in the same way, is not computed again.

    Images are shown as each model's own preprocessing has it, or as ``protocol`` says: a name of
    `resnets.evaluation.protocols.PROTOCOLS`, or a Protocol. ``size``, ``resize``,
    ``crop_fraction``, ``crops``, ``scales`` and ``tta`` are its fields, and go before its own.

    ``on_progress`` is called with how many images of how many are computed. Of a file of weights
    ``container``, ``dialect`` and ``ema`` say what they say to `load_weights`.

    Raises CheckpointError when there is no model or nothing says how images are prepared or what
    its one output means, DataError when no image is left to look at or models tell other classes
    apart, UsageError for a part or a protocol that cannot be meant, and NonFiniteError when an
    answer is NaN or infinite.
    """
    if not isinstance(data, str | Path):
        raise UsageError(
            f"data is a {type(data).__name__}, no folder and no data set's name",
            hint="give a folder of class folders; of tensors the accuracy is (model.eval()("
            "model.preprocess(images)).argmax(1) == labels).float().mean()",
        )
    settings = asked(
        protocol,
        size=size,
        resize=resize,
        crop_fraction=crop_fraction,
        crops=crops,
        scales=scales,
        tta=tta,
    )
    given, homes = _given(models, home)
    if not given:
        raise UsageError("there is no model", hint="give a network, a run folder or a file")
    for model in given:
        check_reading(model, reading, evaluate)
    names = _names(homes)
    opened = [_ready(model, device, reading) for model in given]
    runtimes = [carried_out(runtime, settings) for runtime in opened]
    words = read_class_words(Path(class_names)) if class_names else ClassWords()
    choice = Choice(data, split, None if root is None else Path(root), words)
    chosen = choice.of(opened, homes)
    check_alike(names, runtimes, chosen)
    kept = Kept(None if out is None else Path(out), runtimes, chosen, choice.digest)
    with kept.alone():
        known = [kept.load(number) for number in range(len(runtimes))]
        counts = [
            0 if there else len(each.truth) for there, each in zip(known, chosen, strict=True)
        ]
        members, keep = [], len(runtimes) > 1 or out is not None
        for number, (runtime, each) in enumerate(zip(runtimes, chosen, strict=True)):

            def progress(done: int, _: int, before: int = sum(counts[:number])) -> None:
                on_progress(before + done, sum(counts))

            scores = known[number] or _answers(runtime, each, progress, keep)
            if not known[number]:
                kept.save(number, *scores)
            members.append(_assessment(names[number], runtime, settings, each, scores))
        found = members[0] if len(members) == 1 else together(members)
        kept.write(found, names, str(choice.source))
    return found


def _names(homes: Sequence[str | Path | None]) -> list[str]:
    """Return what models are called among several: by their files, or their places."""
    known = [Path(home) for home in homes if home is not None]
    if len(known) == len(homes):
        return distinct(known)
    return [f"model {place}" for place in range(1, len(homes) + 1)]


def _given(
    models: "Model | Sequence[Model]", home: str | Path | Sequence[str | Path] | None
) -> "tuple[list[Model], list[str | Path | None]]":
    """Return each model, and its run folder where one is known."""
    given: list[Model] = (
        [*models] if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    )
    homes: list[str | Path | None] = (
        [home] if home is None or isinstance(home, str | Path) else [*home]
    )
    if len(homes) != len(given):
        homes = [None] * len(given)
    found: list[tuple[Model, str | Path | None]] = []
    for model, place in zip(given, homes, strict=True):
        if isinstance(model, str | Path):
            found += [(run, run) for run in seeds_in(Path(model))] or [(model, model)]
        else:
            found.append((model, place))
    return [model for model, _ in found], [place for _, place in found]


def _ready(model: "Model", device: str, reading: "ReadingOptions") -> Runtime:
    runtime = resolved(model, None, **reading)
    if runtime.name == "torch":
        from resnets.inference.runtimes.torch_runtime import Network
        from resnets.machine.device import choose_device

        if isinstance(runtime, Network):
            runtime.network.to(choose_device(device))
    return runtime


def _answers(runtime: Runtime, chosen: Chosen, on_progress: Progress, keep_logits: bool) -> Scores:
    keep_logits = keep_logits or len(chosen.truth) * runtime.spec.num_classes <= MOST
    if chosen.split is not None:
        from resnets.evaluation.network import evaluate as evaluate_network
        from resnets.inference.runtimes.torch_runtime import Network

        several = chosen.split.targets is not None
        if isinstance(runtime, Network) and (several or runtime.outputs != "sigmoid"):
            network, preprocess = runtime.network, preprocess_of(runtime)
            scores = evaluate_network(
                network,
                chosen.split,
                preprocess,
                keep_logits=keep_logits,
                on_progress=on_progress,
            )
            return scores, _unread(chosen, scores)
    # Views are cut of the images themselves, not of the squares that training keeps.
    files = chosen.files() if chosen.files and isinstance(runtime, Averaged) else ()
    return answer(runtime, files or chosen.images(), chosen.truth, on_progress, keep_logits)


def _unread(chosen: Chosen, scores: Evaluation) -> list[tuple[int, str]]:
    """Return which images have turned out to be broken, and why."""
    reasons = dict(chosen.left_out())
    places = set(range(len(chosen.truth))) - set(np.asarray(scores.positions).tolist())
    return [(place, reasons[str(chosen.names[place])]) for place in sorted(places)]


def _assessment(
    name: str, runtime: Runtime, protocol: Protocol, chosen: Chosen, found: Scores
) -> Assessment:
    labelling, (scores, broken) = chosen.labelling, found
    if runtime.preprocess:
        protocol = protocol.settled(runtime.preprocess)
    shown = (f"shown {protocol.sentence}", *runtime.notes) if isinstance(runtime, Averaged) else ()
    unread = tuple((str(chosen.names[place]), reason) for place, reason in broken)
    positions = () if scores.positions is None else scores.positions.tolist()
    return Assessment(
        **vars(scores),
        name=name,
        outputs=meaning(runtime.outputs, runtime.spec.num_classes),
        calibration=runtime.calibration,
        protocol=protocol,
        images=[chosen.names[place] for place in positions],
        part=chosen.part,
        names=labelling.names,
        strange=tuple((name, chosen.counts[name]) for name in labelling.strange),
        broken=tuple(dict((*chosen.left_out(), *unread)).items()),
        loose=chosen.loose,
        notes=(*shown, *chosen.notes, *([labelling.assumed] if labelling.assumed else [])),
    )
