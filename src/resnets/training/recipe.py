"""Everything that decides a run, as validated data; ``recipes/*.yaml`` hold the published ones."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resnets.errors import UsageError, nearest
from resnets.training import strict_yaml

Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataRecipe(_Section):
    """What is trained on."""

    holdout: Fraction | Annotated[int, Field(ge=1)] = Field(
        0.1,
        description="fraction or number of training samples held out for validation, "
        "where the data set has no validation part of its own",
    )
    split_seed: Seed = Field(0, description="seed of that split; separate from the run's seed")
    image_size: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="side of the crop in pixels; null: the data set's or the model's",
    )
    broken: Literal["error", "skip"] = Field("error", description="what a broken picture does")
    normalize: Literal["channel", "pixel_mean"] = Field(
        "channel",
        description="channel: subtract each channel's mean, divide by its standard "
        "deviation; pixel_mean: subtract the mean picture (He et al. 2015, sec. 4.2)",
    )


class AugmentRecipe(_Section):
    """What training does to each picture."""

    padding: int = Field(4, ge=0, description="pixels added on each side before a random crop")
    fill: Literal["mean", "black", "reflect"] = Field("mean", description="what the padding shows")
    mirror: bool | Literal["auto"] = Field(
        "auto",
        description="flip half of the pictures left to right; auto: where the data set "
        "says that it keeps the class",
    )
    cutout: int = Field(0, ge=0, description="side of a square to hide, pixels; 0: none")


class OptimizerRecipe(_Section):
    """Stochastic gradient descent with momentum: v <- momentum v + gradient; w <- w - lr v."""

    lr: float = Field(0.1, gt=0, description="peak learning rate")
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0)
    decay: Literal["weights", "all"] = Field(
        "weights",
        description="weights: convolutions and classifier only; all: biases and batch norms too",
    )


class ScheduleRecipe(_Section):
    """How long, and how the learning rate moves; positions are fractions of the whole run."""

    epochs: int | None = Field(None, ge=1)
    iterations: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
    shape: Literal["steps", "cosine", "linear"] = "steps"
    warmup: Fraction = Field(0.0, description="part of the run in which the rate rises from 0")
    milestones: tuple[Fraction, ...] = Field((), description="where shape steps drops")
    factor: float = Field(0.1, gt=0, lt=1, description="what each drop multiplies the rate by")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("give either epochs or iterations")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise")
        if self.milestones and self.shape != "steps":
            raise ValueError(f"milestones belong to shape steps, not {self.shape}")
        return self


class Recipe(_Section):
    """A training recipe; ``source`` says where its values come from."""

    name: str = Field(pattern=r"^[\w.-]+$")
    source: str = ""
    batch_size: int = Field(128, ge=1)
    seed: Seed = 0
    label_smoothing: Fraction = 0.0
    data: DataRecipe = DataRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe

    def to_yaml(self) -> str:
        """Return the recipe with every default written out."""
        return strict_yaml.dump(self.model_dump(mode="json"))


def list_recipes() -> list[str]:
    """Return the names of the recipes inside the package."""
    folder = resources.files("resnets") / "recipes"
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_recipe(recipe: str | Path | Recipe, settings: Sequence[str] = ()) -> Recipe:
    """Return a recipe by name or from a YAML file, with settings such as ``optimizer.lr=0.05``.

    Raises UsageError for an unknown name, key or value, saying where it stands.
    """
    if isinstance(recipe, Recipe):
        source, values = recipe.name, recipe.model_dump(mode="json")
    else:
        source, values = str(recipe), strict_yaml.load(_read(recipe), str(recipe))
    if not isinstance(values, dict):
        raise UsageError(f"{source}: a recipe is a mapping of keys to values")
    for setting in settings:
        _override(values, setting)
    try:
        # As JSON: types stay strict, and lists become tuples.
        return Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise _explain(source, error) from None


def _read(recipe: str | Path) -> str:
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{path}: cannot be read as a recipe: {error}", hint="give a YAML file or a name"
            ) from None
    names = list_recipes()
    if str(recipe) not in names:
        raise UsageError(
            f'no recipe is called "{recipe}"',
            hint=f"choose from {', '.join(names)}, or give the path of a .yaml file",
        )
    return (resources.files("resnets") / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8")


def _override(values: dict[str, Any], setting: str) -> None:
    """Apply one ``section.key=value`` to the values of a recipe."""
    path, equals, text = setting.partition("=")
    *sections, key = path.strip().split(".")
    if not equals or not key:
        raise UsageError(
            f'setting "{setting}" is not of the form key=value',
            hint="for example --set optimizer.lr=0.05",
        )
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(f'setting "{setting}": {section} is a value, not a section')
    values[key] = strict_yaml.load(text, f"--set {setting}")
    # Epochs and iterations exclude each other: the one that is set last stands.
    if sections == ["schedule"] and key in ("epochs", "iterations") and values[key] is not None:
        values[{"epochs": "iterations", "iterations": "epochs"}[key]] = None


def _explain(source: str, error: ValidationError) -> UsageError:
    """Turn pydantic's first complaint into one line with the key, and name the nearest key."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    section: type[BaseModel] = Recipe
    known: list[str] = []
    depth = 0
    for depth, part in enumerate(path, start=1):  # noqa: B007  (where the walk ended is used)
        known = list(section.model_fields)
        inner = section.model_fields[part].annotation if part in known else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break  # a value; what follows names the members of a union
        section = inner
    where = ".".join(path[:depth])
    if first["type"] == "extra_forbidden":
        close = nearest(path[-1], known)
        return UsageError(
            f'recipe {source}: unknown key "{where}"',
            hint=f"did you mean {close}?" if close else f"known here: {', '.join(known)}",
        )
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict) else f", not {first['input']!r}"
    return UsageError(
        f"recipe {source}: {where or 'recipe'}: {message}{given}",
        hint="`--set key=value` and the recipe's own file are where values come from",
    )
