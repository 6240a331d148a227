"""Models on the Hugging Face Hub: ``from_pretrained``, ``save_pretrained``, ``push_to_hub``.

A repository, or the folder that it is made from, holds ``model.safetensors`` with our metadata (so
that the folder opens like a run folder), ``config.json`` with the spec, the preprocessing and the
class names for those who read JSON, and a card. Needs the extra `hub`.
"""

from json import JSONDecodeError
from pathlib import Path
from typing import Any, Self

import torch

from resnets.data.preprocess import known
from resnets.errors import CheckpointError, ResnetsError, ResourceError, SpecError, lacking
from resnets.files import write_json
from resnets.machine.downloads import is_offline
from resnets.models import restore
from resnets.nn import ResNet
from resnets.spec import Spec
from resnets.weights.save import save_weights

try:
    from huggingface_hub import ModelHubMixin, constants, hf_hub_download
except ImportError:
    raise lacking("the Hugging Face Hub needs huggingface_hub", "hub") from None

WEIGHTS = "model.safetensors"

CARD = """---
{{ card_data }}
---

A residual network, saved by `resnets`: `config.json` says which one.

    from resnets.integrations.hub import HubResNet
    model = HubResNet.from_pretrained("{{ repo_id | default("this repository", true) }}")
    logits = model(model.preprocess("picture.jpg"))
"""


class HubResNet(
    ResNet,
    ModelHubMixin,
    library_name="resnets",
    pipeline_tag="image-classification",
    tags=["resnet", "image-classification"],
    model_card_template=CARD,
):
    """A ResNet that goes to the Hub and comes from there.

    ``made`` is what the metadata say about how the weights came about; it travels along.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.made: dict[str, Any] = {}

    @classmethod
    def of(cls, model: ResNet) -> Self:
        """Return a model that shares parameters, buffers and all else with a given one."""
        with torch.device("meta"):
            shared = cls(model.spec)
        shared.load_state_dict(model.state_dict(keep_vars=True), assign=True)
        for ours, theirs in zip(shared.modules(), model.modules(), strict=True):
            ours.training = theirs.training
        shared.preprocess, shared.classes = model.preprocess, model.classes
        shared.outputs, shared.assumed = model.outputs, model.assumed
        shared.thresholds, shared.calibration = model.thresholds, model.calibration
        shared.made = dict(getattr(model, "made", {}))
        return shared

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: str | Path, *, local_files_only: bool | None = None, **options: Any
    ) -> Self:
        """Return the model of a repository ("name/model") or folder, in evaluation mode.

        Options are huggingface_hub's: ``revision``, ``token``, ``cache_dir``, ``force_download``.
        ``local_files_only`` defaults to what RESNETS_OFFLINE and HF_HUB_OFFLINE say. Raises
        CheckpointError for what is not a model of ours and ResourceError when the Hub cannot be
        reached.
        """
        offline = is_offline() if local_files_only is None else local_files_only
        try:
            model: Self = super().from_pretrained(source, local_files_only=offline, **options)
        except (SpecError, TypeError, ArithmeticError, AttributeError, JSONDecodeError) as error:
            raise CheckpointError(
                f"{source}: config.json is damaged: {getattr(error, 'message', error)}",
                hint="fetch it again",
            ) from None
        except ResnetsError:
            raise
        except Exception as error:  # its own errors, the network library's and the system's
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ResourceError(
                f"{source}: cannot be had from the Hugging Face Hub: {first_line}",
                hint="check the name and the network; a folder must exist to be read as one",
            ) from error
        return model

    @classmethod
    def _from_pretrained(cls, *, model_id: str, spec: Spec | None = None, **options: Any) -> Self:
        """Read the weights; ``spec`` is what config.json says, which must not say another thing."""
        path = Path(model_id)
        if not path.is_dir():
            path = Path(hf_hub_download(repo_id=model_id, filename=WEIGHTS, **options))
        model, metadata = restore(path)
        if spec is not None and spec != metadata.spec:
            raise CheckpointError(
                f"{model_id}: config.json describes {spec!r}, but {WEIGHTS} holds "
                f"{metadata.spec!r}",
                hint="save the model again rather than edit config.json",
            )
        shared = cls.of(model)
        shared.made = metadata.made
        return shared

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write config.json and the weights with their metadata. Raises ResourceError."""
        prepared = known(self.preprocess)
        preprocess = prepared.to_dict() if prepared else None
        classes = list(self.classes)
        values = {"spec": self.spec.to_dict(), "preprocess": preprocess, "classes": classes}
        save_weights(self, save_directory / WEIGHTS, made=self.made)
        write_json(save_directory / constants.CONFIG_NAME, values)
