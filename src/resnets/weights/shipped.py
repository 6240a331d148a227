"""The weights that come with the package; each file's metadata say how they were made."""

from pathlib import Path

FOLDER = Path(__file__).with_name("shipped")
DEFAULT = "resnet20", "cifar10"  # what predicts where no model is named


def shipped(model: str, name: str) -> Path | None:
    """Return the file of a model's weights of this name, such as resnet20's "cifar10"; or None."""
    path = FOLDER / f"{model}.{name}.safetensors"
    return path if path.is_file() else None


def names(model: str) -> list[str]:
    """Return the names of the weights of a model that come with the package."""
    return sorted(path.name.split(".")[1] for path in FOLDER.glob(f"{model}.*.safetensors"))
