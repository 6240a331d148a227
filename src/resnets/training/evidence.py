"""The files of a run as an audit looks at them, and what follows from its recipe."""

from functools import cached_property
from pathlib import Path
from typing import Any

from resnets.data.order import batch_bounds
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import Epoch, LedgerLine, from_plain
from resnets.spec import Spec
from resnets.training.recipe import Recipe, read_recipe
from resnets.training.schedule import Patience
from resnets.training.thawing import Thawing


class Evidence:
    """A run folder; each of its files is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.record = self.folder.read_record()
        self.name, self.status, self.data = path.name, self.record.status, self.record.data
        self.images = self.data.train or 0

    @cached_property
    def found_broken(self) -> int:
        """How many images were left out when they were to be read, not from the start."""
        return len(self.folder.read_preparation().skipped) - (self.data.skipped or 0)

    @property
    def is_older(self) -> bool:
        """Whether it is of the first versions, which kept neither ledger nor sessions."""
        return not self.record.sessions and not self.folder.ledger.exists()

    @cached_property
    def recipe(self) -> Recipe:
        """recipe.yaml."""
        return read_recipe(self.folder.recipe)

    @cached_property
    def batches(self) -> list[tuple[int, int]]:
        """The bounds of the batches of a whole epoch."""
        return batch_bounds(self.images, self.recipe.batch_size, self.recipe.data.repeats)

    @cached_property
    def thawing(self) -> Thawing:
        """What learns when."""
        spec = Spec.from_dict(self.record.model.spec)
        return Thawing(self.recipe.finetune, spec, len(self.batches))

    @property
    def planned(self) -> int:
        """The steps that the recipe asks for, at most."""
        schedule = self.recipe.schedule
        return schedule.iterations or int(schedule.epochs or 0) * len(self.batches)

    @cached_property
    def steps(self) -> int:
        """The steps after which the run ends: when its patience does, by the metrics it wrote."""
        limit, patience = self.recipe.schedule.patience, Patience()
        for line in self.metrics if limit else ():
            if line.validation_accuracy is None or line.validation_loss is None:
                continue
            settled = self.thawing.is_settled(line.step)
            patience.after_epoch(line.validation_accuracy, line.validation_loss, settled=settled)
            if limit and patience.waited >= limit:
                return line.step
        return self.planned

    @property
    def epochs(self) -> int:
        """The epochs that the recipe asks for; the last may be short."""
        return -(-self.steps // len(self.batches))

    def steps_of(self, epoch: int) -> int:
        """The steps of an epoch, counted from 0; the last may be cut short by the recipe."""
        return min(len(self.batches), self.steps - epoch * len(self.batches))

    @cached_property
    def ledger(self) -> list[LedgerLine]:
        """The lines of ledger.jsonl."""
        rows = self.folder.rows(self.folder.ledger)
        return [from_plain(LedgerLine, row, where) for where, row in rows]

    @cached_property
    def rows(self) -> list[tuple[str, Any]]:
        """The lines of metrics.jsonl as they are."""
        return list(self.folder.rows(self.folder.metrics))

    @property
    def metrics(self) -> list[Epoch]:
        """The lines of metrics.jsonl."""
        return [from_plain(Epoch, row, where) for where, row in self.rows]
