"""The residual-network family as software: one spec, exact networks, honest training.

Everything below is imported when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from resnets.analysis.profiling import profile as profile
    from resnets.errors import ResnetsError as ResnetsError
    from resnets.evaluation import evaluate as evaluate
    from resnets.exporting.export import export as export
    from resnets.inference.prediction import predict as predict
    from resnets.integrations.hub import HubResNet as HubResNet
    from resnets.machine.device import Machine as Machine
    from resnets.models import create_backbone as create_backbone
    from resnets.models import create_model as create_model
    from resnets.models import open_model as open_model
    from resnets.nn import Backbone as Backbone
    from resnets.nn import ResNet as ResNet
    from resnets.spec import Spec as Spec
    from resnets.training.audit import audit as audit
    from resnets.training.find_lr import find_lr as find_lr
    from resnets.training.memory import peak_memory as peak_memory
    from resnets.training.outlook import plan as plan
    from resnets.training.seeds import train_seeds as train_seeds
    from resnets.training.suspects import apply_suspects as apply_suspects
    from resnets.training.suspects import find_suspects as find_suspects
    from resnets.training.train import train as train
    from resnets.training.tune import tune as tune
    from resnets.weights.load import load_weights as load_weights
    from resnets.weights.save import save_weights as save_weights
    from resnets.zoo import get_spec as get_spec
    from resnets.zoo import list_models as list_models

_HOME = {
    "Backbone": "nn",
    "HubResNet": "integrations.hub",
    "Machine": "machine.device",
    "ResNet": "nn",
    "ResnetsError": "errors",
    "Spec": "spec",
    "apply_suspects": "training.suspects",
    "audit": "training.audit",
    "create_backbone": "models",
    "create_model": "models",
    "evaluate": "evaluation",
    "export": "exporting.export",
    "find_lr": "training.find_lr",
    "find_suspects": "training.suspects",
    "get_spec": "zoo",
    "list_models": "zoo",
    "load_weights": "weights.load",
    "open_model": "models",
    "peak_memory": "training.memory",
    "plan": "training.outlook",
    "predict": "inference.prediction",
    "profile": "analysis.profiling",
    "save_weights": "weights.save",
    "train": "training.train",
    "train_seeds": "training.seeds",
    "tune": "training.tune",
}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_meant(name)}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def _meant(name: str) -> str:
    """Return what to type instead of a function for each model, or of a name that is near."""
    if name.startswith("_"):  # which programs ask for, not people
        return ""
    from resnets.errors import nearest
    from resnets.zoo import is_named

    if is_named(name.lower()):
        return f': create_model("{name.lower()}") makes one'
    close = nearest(name, list(_HOME))
    return f": did you mean {close}?" if close else ""


def __dir__() -> list[str]:
    return __all__
