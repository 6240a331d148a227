"""What an evaluation leaves in a folder: evaluation.json, a page, and each model's scores.

Scores are known by the digests of the weights, of the images with their labels, and of how images
are shown, so that a model that is evaluated again with others, or after a stop, is not computed.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from resnets import __version__
from resnets.evaluation.assessment import Assessment
from resnets.evaluation.choice import Chosen
from resnets.evaluation.collected import Scores
from resnets.evaluation.scores import Evaluation
from resnets.evaluation.several import scored
from resnets.files import alone, write_json, writing
from resnets.inference.runtimes import Runtime
from resnets.weights.calibration import calibrated

SCHEMA_VERSION = 1
RECORD, PAGE, SCORES = "evaluation.json", "evaluation.html", "scores"


class Kept:
    """The folder of an evaluation of models on what is chosen for each of them.

    Without a folder nothing is kept, nor written. ``digest`` is that of the images.
    """

    def __init__(
        self,
        folder: Path | None,
        runtimes: Sequence[Runtime],
        chosen: Sequence[Chosen],
        digest: Callable[[Chosen], str],
    ) -> None:
        self._folder, self._runtimes, self._chosen = folder, runtimes, chosen
        self._data = digest(chosen[0]) if folder else ""
        self._weights = [runtime.digest() for runtime in runtimes] if folder else []

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes from writing into the folder. Raises what `files.alone` raises."""
        return alone(self._folder / RECORD) if self._folder else nullcontext()

    def _place(self, number: int) -> Path:
        """Return the file of the scores of a model, named by all that they depend on."""
        assert self._folder is not None
        names = "\0".join(map(str, self._chosen[number].names)).encode("utf-8", "surrogateescape")
        runtime, order = self._runtimes[number], hashlib.sha256(names).hexdigest()
        about = (runtime.name, self._weights[number], runtime.outputs, self._data, order)
        digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        return self._folder / SCORES / f"{digest[:32]}.npz"

    def load(self, number: int) -> Scores | None:
        """Return a model's scores, and which images are broken; None where they are not kept."""
        if self._folder is None:
            return None
        runtime, chosen = self._runtimes[number], self._chosen[number]
        try:
            with (
                self._place(number).open("rb") as opened,  # which NumPy leaves open where it fails
                np.load(opened, allow_pickle=False) as file,
            ):
                values = {name: file[name] for name in file.files}
            positions, logits = values["positions"], values["logits"]
            if logits.shape != (len(positions), runtime.spec.num_classes):
                raise ValueError
            broken = [(int(place), str(why)) for place, why in json.loads(str(values["broken"]))]
            truth, loss = chosen.truth[positions], float(values["loss"])
            if truth.ndim == 2:
                known = calibrated(logits, runtime.calibration)
                several = scored(truth, known, runtime.thresholds)
                return Evaluation.of_several(several, loss, positions, logits), broken
            found = Evaluation(
                labels=truth,
                predicted=values["predicted"],
                confidence=values["confidence"],
                loss=loss,
                top5=int(values["top5"]),
                classes=int(values["classes"]),
                positions=positions,
                logits=logits,
            )
            return found, broken
        except (OSError, ValueError, KeyError, IndexError, EOFError, BadZipFile):
            return None  # there are none, or they are damaged

    def save(self, number: int, scores: Evaluation, broken: list[tuple[int, str]]) -> None:
        """Keep a model's scores, whole or not at all."""
        if self._folder is None:
            return
        of_one = () if scores.several else ("predicted", "confidence", "top5")
        names = ("positions", "logits", "loss", "classes", *of_one)
        values = {name: np.asarray(getattr(scores, name)) for name in names}
        with writing(self._place(number)) as file:
            np.savez(file, **values, broken=np.array(json.dumps(broken)))  # type: ignore[arg-type]

    def write(self, found: Assessment, names: Sequence[str], source: str) -> None:
        """Write what was found by models of these names on data from there, and its page."""
        if self._folder is None:
            return
        from resnets.report.evaluated import write_evaluation_page  # draws, which takes its time

        models = zip(names, self._weights, self._runtimes, strict=True)
        record = {
            "schema_version": SCHEMA_VERSION,
            "data": {"source": source, "sha256": self._data},
            "models": [
                {
                    "name": name,
                    "sha256": digest,
                    "runtime": runtime.name,
                    "model": runtime.spec.name,
                }
                for name, digest, runtime in models
            ],
            "versions": {
                "resnets": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("numpy", "pillow")},
                **{runtime.name: runtime.version for runtime in self._runtimes},
            },
            **found.to_dict(),
        }
        write_json(self._folder / RECORD, record)
        write_evaluation_page(self._folder / PAGE, record | {"sentences": found.sentences()})
