"""What a classifier carries and answers besides its logits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resnets.nn.levels import FeatureInfo, feature_info
from resnets.nn.trunk import Trunk


class Classifier(Trunk):
    """A trunk with a head: ``forward_features``, ``avgpool`` and a last layer ``fc``.

    ``preprocess`` turns images into the batches it was trained on, ``classes`` names its outputs
    and ``outputs`` says what they mean: "softmax", one of all classes, or "sigmoid", each by
    itself; ``thresholds`` then are the probabilities from which on each class is an answer, and
    ``calibration`` is what makes probabilities hold (`resnets.weights.calibration`). They are set
    where they are known, and all but ``preprocess`` are of the layer ``fc``: another has none.
    ``assumed`` names the choices that nothing has shown about the weights that were loaded.
    """

    preprocess: Callable[[Any], Tensor] | None = None
    classes: tuple[str, ...] = ()
    outputs: str | None = None
    thresholds: tuple[float, ...] = ()
    calibration: Any = None
    assumed: tuple[str, ...] = ()

    forward_features: Callable[[Tensor], Tensor]
    avgpool: nn.Module
    fc: nn.Linear

    def __setattr__(self, name: str, value: Any) -> None:
        # `model.fc = nn.Linear(...)` of every tutorial: what is known is of the layer it replaces.
        if name == "fc" and getattr(self, "fc", value) is not value:
            self.classes, self.outputs, self.thresholds, self.calibration = (), None, (), None
        super().__setattr__(name, value)

    def embed(self, x: Tensor, normalize: bool = False) -> Tensor:
        """Return what the classifier reads, (N, C); each row of length 1 with ``normalize``."""
        pooled: Tensor = self.avgpool(self.forward_features(x)).flatten(1)
        return F.normalize(pooled) if normalize else pooled

    def get_classifier(self) -> nn.Module:
        """Return the last layer, (N, C) to (N, num_classes)."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Give the model a fresh classifier; ``classes`` and ``outputs`` no longer hold.

        0 leaves it without one, so that it returns pooled features (N, C); its spec, which has no
        such number, keeps the last.
        """
        old = next(self.parameters())
        classifier: nn.Module = nn.Identity()
        if num_classes:
            self.spec = replace(self.spec, num_classes=num_classes)
            classifier = nn.Linear(
                self.num_features, num_classes, device=old.device, dtype=old.dtype
            )
            nn.init.zeros_(classifier.bias)
        self.fc = classifier  # type: ignore[assignment]

    @property
    def num_features(self) -> int:
        """Channels of the last stage, which the classifier reads."""
        return self.spec.channels[-1]

    @property
    def feature_info(self) -> FeatureInfo:
        """The levels of the trunk as timm lists them: channels, reduction, module."""
        return feature_info(self)
