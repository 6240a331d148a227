"""What of a network learns when, and how fast: freezing, thawing by stages, rates by depth."""

from collections.abc import Iterator
from itertools import accumulate
from math import inf

from torch import nn

from resnets.formatting import plural
from resnets.nn import ResNet
from resnets.nn.freezing import affine_parameters, fix_statistics, release_statistics
from resnets.spec import Spec
from resnets.training.recipe import FinetuneRecipe

# What stands after the stages: with the last of them, or with the classifier.
_PARTS_AFTER = {"norm": 0, "last_activation": 0, "avgpool": 1, "dropout": 1, "fc": 1}


class Thawing:
    """The parts of a spec's network as a recipe lets them learn, with so many batches an epoch.

    Parts are numbered from the input: 0 the stem, then the stages, then the classifier. A norm that
    stands after the last stage belongs to it. Blocks are numbered alike, for layer decay.
    """

    def __init__(self, recipe: FinetuneRecipe, spec: Spec, batches: int = 1) -> None:
        self.recipe, self.batches = recipe, batches
        self.stages = len(spec.depths)
        self._before = (0, *accumulate(spec.depths))  # blocks before each stage
        self.head = round(float(recipe.head_epochs) * batches)  # steps of the classifier alone
        fixed = self.stages if recipe.freeze == "all" else -1
        if isinstance(recipe.freeze, int):
            fixed = min(recipe.freeze, self.stages)
        self.starts = tuple(
            inf
            if part <= fixed
            else self.head + round((self.stages - part) * recipe.thaw * batches)
            for part in range(self.stages + 1)
        )  # the step with which each part but the classifier begins to learn

    @property
    def holds(self) -> bool:
        """Whether anything is held back at any step."""
        return any(self.starts) or self.recipe.batch_norm != "learn"

    @property
    def divides(self) -> bool:
        """Whether parts begin to learn at different steps, or at rates of their own."""
        recipe = self.recipe
        return any(self.starts) or recipe.layer_decay != 1 or recipe.rates is not None

    def frozen(self, step: int) -> int:
        """Return how many parts, from the stem on, do not learn in a step, counted from 0."""
        return sum(start > step for start in self.starts)

    def is_settled(self, step: int) -> bool:
        """Whether in the step before ``step`` all learnt that ever will."""
        return all(start < step for start in self.starts if start != inf)

    def freeze(self, model: ResNet, frozen: int) -> None:
        """Let the first ``frozen`` parts keep parameters and statistics, and the others learn.

        Parameters stay the same objects; those that do not learn have no gradient, which every
        optimizer leaves alone, and their layers keep nothing for the backward pass. Where no step
        holds anything back, the model stays as it is.
        """
        if not self.holds:
            return
        release_statistics(model)
        model.requires_grad_(True)
        held = list(self._modules(model, frozen))
        fix_statistics(model, held if self.recipe.batch_norm == "learn" else [model])
        for module in held:
            module.requires_grad_(False)
        if self.recipe.batch_norm == "keep":
            for parameter in affine_parameters(model):
                parameter.requires_grad_(False)
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.grad = None

    def train(self, model: ResNet, frozen: int) -> None:
        """Set a model to training mode, but for its frozen parts: nothing in them is random."""
        model.train()
        for module in self._modules(model, frozen):
            module.eval()

    def _modules(self, model: ResNet, frozen: int) -> Iterator[nn.Module]:
        return (m for name, m in model.named_children() if self._part(name) < frozen)

    def _part(self, name: str) -> int:
        """Return the part that a parameter or module belongs to, by its name in the network."""
        first = name.partition(".")[0]
        if first.startswith("layer"):
            return int(first.removeprefix("layer"))
        return self.stages + _PARTS_AFTER[first] if first in _PARTS_AFTER else 0

    def place(self, name: str) -> tuple[int, float]:
        """Return the part of a parameter, by its name, and what its rate is multiplied by."""
        part = self._part(name)
        if self.recipe.rates is not None:
            return part, self.recipe.rates[part]
        above = self._before[-1] + 1  # as many layers above the stem: the blocks, the classifier
        if part > self.stages:
            above = 0
        elif name.startswith("layer"):
            above -= 1 + self._before[part - 1] + int(name.split(".")[1])
        elif part:
            above = 1  # a norm after the last block
        return part, float(self.recipe.layer_decay) ** above

    def sentences(self, steps: int) -> list[str]:
        """Say, in a run of so many steps, what learns when, and at which rates."""
        found = []
        never = sum(start >= steps for start in self.starts)
        if never > self.stages:
            found.append("only the classifier learns; all else keeps its weights and statistics")
        elif self.holds and any(self.starts):
            found.append(self._thaw(never))
        if self.recipe.batch_norm != "learn" and never <= self.stages:
            kept = "statistics" if self.recipe.batch_norm == "keep_statistics" else "every value"
            found.append(f"batch norm keeps {kept} of the weights that training starts from")
        stem, classifier = self.place("conv1")[1], self.place("fc")[1]
        if (stem, classifier) != (1, 1) and never <= self.stages:
            last = self.place(f"layer{self.stages}.0")[1]
            found.append(
                f"rates, of that of the recipe: stem {stem:.2g}, last stage {last:.2g}, "
                f"classifier {classifier:.2g}"
            )
        return found

    def _thaw(self, never: int) -> str:
        """Say in which order the parts begin to learn; ``never`` of them do not."""
        words = []
        if self.head:
            words.append(f"the classifier alone for {plural(self.head / self.batches, 'epoch')}")
        names = ["the stem", *(f"stage {number}" for number in range(1, self.stages + 1))]
        last = self.starts[-1]
        if last == self.starts[never]:
            words.append("all that learns" if never else "everything")
        else:
            order = ", ".join(reversed(names[never:]))
            words.append(f"{order}, one more every {plural(self.recipe.thaw, 'epoch')}")
        stages = f" and {plural(never - 1, 'stage')} after it keep" if never > 1 else " keeps"
        held = f"; the stem{stages} weights and statistics" if never else ""
        return "learns: " + ", then ".join(words) + held
