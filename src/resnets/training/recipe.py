"""Everything that decides a run, as validated data; ``recipes/*.yaml`` hold the published ones."""

import json
from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from resnets.errors import CheckpointError, UsageError, nearest
from resnets.readers import strict_yaml
from resnets.readers.documents import damaged, read_text
from resnets.training.other_names import assignment, find_setting, find_value

Fraction = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(ge=0.01, le=100)]
Factor = Annotated[float, Field(gt=0, lt=1)]
Strength = Annotated[float, Field(ge=0, le=10)]
Turn = Annotated[float, Field(ge=0, le=0.5)]
Focus = Annotated[float, Field(ge=0, le=100)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# Bounds far from anything that trains: beyond them numbers overflow, and memory with them.
Rate = Annotated[float, Field(gt=0, le=100)]
Side = Annotated[int, Field(ge=1, le=4096)]
ClassName = Annotated[str, Field(min_length=1, max_length=200)]
Long = Annotated[int, Field(ge=1, le=10**9)]
Epochs = Annotated[float, Field(ge=0, le=10**9)]
Multiple = Annotated[float, Field(gt=0, le=1000)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataRecipe(_Section):
    """What is trained on."""

    holdout: Fraction | Long = Field(
        0.1,
        description="fraction or number of training samples held out for validation, "
        "where the data set has no validation split of its own",
    )
    split_seed: Seed = Field(0, description="seed of that split; separate from the run's seed")
    image_size: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="side of the crop in pixels; null: the data set's or the model's",
    )
    eval_size: Side | None = Field(
        None,
        ge=8,
        description="the same in evaluation and prediction, where it is another than in training "
        "(Touvron et al. 2019)",
    )
    resize: Side | None = Field(
        None,
        description="side to which images of files are scaled before that crop of their middle; "
        "null: 8/7 of the crop's",
    )
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="of that scaling, antialiased"
    )
    repeats: int = Field(
        1,
        ge=1,
        le=1000,
        description="times that an image comes in a row, each differently augmented; an epoch is "
        "no longer and so has a part of the images (Hoffer et al. 2020)",
    )
    sampling: Literal["uniform", "balanced"] = Field(
        "uniform",
        description="uniform: every image comes once an epoch; balanced: as many are drawn with "
        "replacement, of any class alike, each time differently augmented",
    )
    fit: Literal["crop", "pad", "squash"] = Field(
        "crop",
        description="what becomes of images that are not square; crop: their ends are cut off; "
        "pad: they are seen whole, with black beside them; squash: their sides are made equal",
    )
    view: Literal["whole", "square"] = Field(
        "whole",
        description="what random crops of photographs are cut from; whole: the image as it is; "
        "square: its middle at the size of evaluation and a seventh more, as in earlier versions",
    )
    classes: dict[str, ClassName | None] | None = Field(
        None,
        description="new names of classes; those of one name become one, null leaves a class out: "
        "{trash: other, paper: null}",
    )
    range: tuple[float, float] | None = Field(
        None,
        description="of images of more than 8 bits, the values that become black and white; "
        "null: as many of 8, 10, 12, 14 and 16 bits as the training split uses, of floats 0 and 1, "
        "or else what it spans",
    )
    broken: Literal["error", "skip", "read"] = Field(
        "error",
        description="what a broken image does: error: nothing is trained; skip: it is left out; "
        "read: what has lost its end is read as far as it goes, and the rest left out",
    )
    broken_limit: Fraction = Field(
        0.01,
        description="share of the images that may be left out as broken; one always may",
    )
    normalize: Literal["channel", "pixel_mean", "imagenet", "weights"] = Field(
        "channel",
        description="channel: subtract each channel's mean, divide by its standard deviation; "
        "pixel_mean: subtract the mean image (He et al. 2015, sec. 4.2); "
        "imagenet: the usual constants of ImageNet, whatever the data; weights: those of the "
        "weights that training starts from",
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """Names that are numbers need no quotes."""
        if not isinstance(value, dict):
            return value
        return {old: str(new) if type(new) is int else new for old, new in value.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("range goes from a smaller to a larger value")
        return self

    @property
    def seen_size(self) -> int | None:
        """The side of what evaluation sees; None: the data set's or the model's."""
        return self.eval_size or self.image_size

    def training_size(self, seen: int) -> int:
        """Return the side of training's crops where evaluation sees ``seen``."""
        return self.image_size or seen


class AugmentRecipe(_Section):
    """What training does to each image.

    A crop is cut from the padded image; ``area``, ``scale`` and ``shift`` are other ways to
    choose it, one at a time and without padding.
    """

    padding: int = Field(
        4, ge=0, le=4096, description="pixels added on each side before a random crop"
    )
    fill: Literal["mean", "black", "reflect"] = Field(
        "mean",
        description="what the padding shows; where a policy moves an image, black comes in with "
        "black, else the mean colour",
    )
    area: tuple[Part, Part] | None = Field(
        None,
        description="share of the image's area that a crop takes, from and to, before it is "
        "scaled to the image size (Szegedy et al. 2015)",
    )
    aspect: tuple[Aspect, Aspect] = Field(
        (3 / 4, 4 / 3), description="width / height of such a crop, from and to"
    )
    interpolation: Literal["bilinear", "bicubic", "random"] = Field(
        "bilinear",
        description="of the scaling of such crops of photographs in files; random: either, by "
        "chance (timm's); images in memory are always scaled bilinearly",
    )
    scale: tuple[Side, Side] | None = Field(
        None,
        description="side in pixels to which the image is scaled before the crop, from and to "
        "(He et al. 2015, sec. 3.4)",
    )
    shift: Fraction = Field(
        0.0,
        description="share of its side by which an image moves at most, between pixels too; its "
        "border is repeated (Keras's width_shift_range)",
    )
    mirror: bool | Literal["auto", "alternate"] = Field(
        "auto",
        description="flip half of the images left to right; auto: where the data set says that "
        "it keeps the class; alternate: half in the first epoch, then each image in every "
        "other epoch (Jordan 2024)",
    )
    policy: Literal["randaugment", "trivialaugment", "timm"] | None = Field(
        None,
        description="random operations on each crop: torchvision's RandAugment (Cubuk et al. 2019) "
        "or TrivialAugmentWide (Müller & Hutter 2021); timm: timm's rand-m..-inc1 with the "
        "settings below. Pillow computes it: images in memory on a GPU go to the CPU and back",
    )
    policy_operations: int = Field(
        2, ge=1, le=16, description="of randaugment and timm: operations in a row"
    )
    policy_magnitude: int | None = Field(
        None,
        ge=0,
        le=999,
        description="how far operations go; of randaugment a bin, null: 9; of timm 0 to 10, "
        "null: 10 (m7 of `rand-m7-mstd0.5-inc1` is 7)",
    )
    policy_bins: int = Field(
        31, ge=2, le=1000, description="of randaugment and trivialaugment: magnitudes there are"
    )
    policy_noise: float = Field(
        0.5, ge=0, le=10, description="of timm: standard deviation of the magnitude (mstd)"
    )
    policy_probability: float = Field(
        0.5, ge=0, le=1, description="of timm: that each operation happens (p)"
    )
    policy_interpolation: Literal["nearest", "bilinear", "bicubic", "random"] | None = Field(
        None,
        description="where operations move an image; random: bilinear or bicubic, by chance; null: "
        "that of crops, as in torchvision's and timm's training",
    )
    jitter: tuple[Strength, Strength, Strength, Turn] | None = Field(
        None,
        description="of brightness, contrast, saturation and hue, in a random order: up to so much "
        "is added to or taken from their factor 1, and from the hue's place on its circle of 1 "
        "(torchvision's ColorJitter); computed as a policy is, after it",
    )
    lighting: float = Field(
        0.0,
        ge=0,
        le=100,
        description="colour noise along ImageNet's principal colours (Krizhevsky 2012)",
    )
    cutout: int = Field(0, ge=0, le=4096, description="side of a square to hide, pixels; 0: none")
    erasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that a box of the normalised image is erased, before images mix "
        "(Zhong et al. 2017; torchvision's RandomErasing)",
    )
    erasing_area: tuple[Part, Part] = Field(
        (0.02, 0.33), description="share of the image that such a box takes, from and to"
    )
    erasing_aspect: tuple[Aspect, Aspect] = Field(
        (0.3, 3.3), description="height / width of such a box, from and to"
    )
    erasing_fill: Literal["zero", "noise"] = Field(
        "zero",
        description="what is then there; zero: the mean colour; noise: normal, each pixel its own "
        "(remode pixel of timm)",
    )
    mixup: float = Field(
        0.0, ge=0, le=1, description="blend with another image; alpha (Zhang et al. 2018)"
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        le=1,
        description="paste a box of another image; alpha (Yun et al. 2019). With mixup, half of "
        "the images get one, half the other",
    )
    partner: Literal["any", "next"] = Field(
        "any",
        description="the other image of mixup and cutmix; any: drawn from the training split; "
        "next: the next one in the batch, which is read anyway, so that half as many are",
    )
    first_size: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="side in pixels of the first epochs' images, which then grow to the full size",
    )
    size_step: Side = Field(
        4, description="pixels by which they grow at a time; every size lasts as long"
    )
    full_size_from: Fraction = Field(
        0.5, description="share of the run after which images have the full size"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("area", "aspect", "scale", "erasing_area", "erasing_aspect"):
            limits = getattr(self, name)
            if limits is not None and not 0 < limits[0] <= limits[1]:
                raise ValueError(f"{name} must be two numbers above 0 that rise")
        ways = [name for name in ("area", "scale", "shift") if getattr(self, name)]
        if len(ways) > 1 or (ways and self.padding):
            others = " and ".join([*ways, *(["padding"] if self.padding else [])])
            raise ValueError(f"{others} exclude each other: set all but one to null or 0")
        for name in ("mixup", "cutmix"):
            if 0 < getattr(self, name) < 0.05:
                raise ValueError(f"{name} below 0.05 is hardly any; 0 means none")
        most = {"randaugment": self.policy_bins - 1, "timm": 10}.get(self.policy or "")
        if most is None and self.policy_magnitude is not None:
            raise ValueError("policy_magnitude belongs to policy randaugment or timm")
        if most is not None and most < self.magnitude:
            raise ValueError(f"{self.policy} has magnitudes up to {most}, not {self.magnitude}")
        return self

    @property
    def magnitude(self) -> int:
        """That of the policy, in its own scale; where it is not said, the source's default."""
        if self.policy_magnitude is None:
            return 10 if self.policy == "timm" else 9
        return self.policy_magnitude


LONG_RATE = 0.1  # that auto means for runs of any length but short ones


class OptimizerRecipe(_Section):
    """Stochastic gradient descent, v <- momentum v + gradient; w <- w - lr v; or another."""

    kind: Literal["sgd", "adam", "adamw", "lamb", "muon"] = Field(
        "sgd",
        description="adamw: adam, with the decay apart from the gradient (Loshchilov & Hutter "
        "2019); lamb: adam, each decayed tensor's step in proportion to its norm (You et al. "
        "2020); muon: sgd, but convolutions after the stem keep their norms and move by "
        "orthogonal matrices (Jordan et al. 2024); for nets with norms after convolutions",
    )
    lr: Rate | Literal["auto"] = Field(
        0.1,
        description="peak learning rate; auto: fitted to sgd's batches and to the number of steps, "
        "as a short run bears less; the run folder has the number",
    )
    matrix_lr: Rate = Field(0.05, description="that of muon's orthogonal matrices")
    momentum: Fraction = Field(0.9, description="of sgd; the first beta of adam, adamw, lamb")
    nesterov: bool = Field(
        False, description="look a step of the momentum ahead (Sutskever et al. 2013); of sgd"
    )
    momentum_form: Literal["torch", "caffe"] = Field(
        "torch",
        description="caffe: v <- momentum v + lr gradient; w <- w - v, which differs where the "
        "rate changes",
    )
    second_momentum: Fraction = Field(0.999, description="the second beta of adam, adamw, lamb")
    epsilon: float = Field(1e-7, gt=0, le=1, description="of these three; Keras's default")
    trust_clip: bool = Field(
        False, description="of lamb: no tensor's step grows by its norm, it may only shrink"
    )
    weight_decay: float = Field(
        1e-4,
        ge=0,
        le=100,
        description="times the weight, added to the gradient; by adamw and lamb to the step",
    )
    decay: Literal["convolutions", "weights", "biases", "all"] = Field(
        "weights",
        description="weights: convolutions and classifier; biases: theirs too; all: norms too",
    )
    clip: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="largest norm of the whole gradient; beyond it is scaled down",
    )
    accumulate: int = Field(
        1, ge=1, description="parts in which a batch is computed, to save memory"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind != "sgd" and (self.nesterov or self.momentum_form != "torch"):
            raise UsageError(
                f"nesterov and momentum_form belong to sgd, not {self.kind}",
                hint=f"beside it: {' '.join(map(assignment, _BESIDE['optimizer.kind']))}",
            )
        if self.kind != "sgd" and self.lr == "auto":
            raise UsageError(
                f"lr auto belongs to sgd, not {self.kind}: give a number",
                hint="beside it: --set optimizer.lr=0.001",
            )
        if self.trust_clip and self.kind != "lamb":
            raise ValueError(f"trust_clip belongs to lamb, not {self.kind}")
        if self.nesterov and (self.momentum == 0 or self.momentum_form == "caffe"):
            raise ValueError("nesterov needs a momentum, in torch's form")
        return self

    @property
    def peak(self) -> float:
        """The peak rate as a number; for "auto", which every run settles, that of a long run."""
        return LONG_RATE if self.lr == "auto" else self.lr


class ScheduleRecipe(_Section):
    """How long, and how the learning rate moves; positions are fractions of the whole run."""

    epochs: Long | Literal["auto"] | None = Field(
        None, description="passes over the training split; auto: by the number of its images"
    )
    iterations: Long | None = Field(None, description="optimizer steps, instead of epochs")
    interval: Literal["step", "epoch"] = Field(
        "step", description="how often the rate changes; epoch: it is that of its first step"
    )
    shape: Literal["steps", "cosine", "linear"] = Field(
        "steps",
        description="how the rate falls after the warm-up: by factor at each milestone, or along "
        "half a cosine or a line until the run ends",
    )
    shape_from: Literal["warmup", "start"] = Field(
        "warmup",
        description="where the cosine or the line begins: after the warm-up, or at the start of "
        "the run, where the warm-up hides it (timm's)",
    )
    end: Fraction = Field(0.0, description="share of the peak at which cosine or line end")
    warmup: Fraction = Field(0.0, description="share of the run in which the rate rises from 0")
    warmup_steps: int = Field(
        0,
        ge=0,
        le=10**9,
        description="steps that the warm-up has at least, but no more than half of the run; "
        "`--set schedule.warmup=0` means none of these either",
    )
    warmup_epochs: float = Field(
        0.0, ge=0, le=10**9, description="the same in epochs, which other lengths do not scale"
    )
    warmup_from: Factor | None = Field(
        None,
        description="share of the peak that the first step of the warm-up has; the step after the "
        "warm-up then has the peak, not its last; null: it rises from 0",
    )
    warmup_rate: Factor | None = Field(
        None, description="what the rate is multiplied by throughout the warm-up, instead of rising"
    )
    warmup_until_error: Factor | None = Field(
        None,
        description="end the warm-up when the training error of 100 steps falls below this, "
        "instead of after a fixed share (He et al. 2015, sec. 4.2); needs warmup_rate",
    )
    milestones: tuple[Fraction, ...] = Field((), description="where shape steps drops")
    factor: Factor | tuple[Factor, ...] = Field(
        0.1,
        description="what each drop multiplies the rate by; several: what each milestone "
        "multiplies the peak by",
    )
    plateau_factor: Factor | None = Field(
        None,
        description="what the rate is multiplied by when the held-out loss has not fallen for "
        "plateau_patience epochs, on top of the shape",
    )
    plateau_patience: int = Field(5, ge=1, le=10**9, description="epochs that the plateau waits")
    plateau_floor: float = Field(
        0.0, ge=0, le=100, description="the plateau lowers no rate below this"
    )
    patience: Long | None = Field(
        None,
        description="epochs without a better accuracy on the held-out split, or the same at a "
        "lower loss, after which the run ends early; null: it never does",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("give either epochs or iterations")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise")
        if self.milestones and self.shape != "steps":
            raise ValueError(f"milestones belong to shape steps, not {self.shape}")
        if isinstance(self.factor, tuple) and len(self.factor) != len(self.milestones):
            raise ValueError("factor must be one number, or one for each milestone")
        if self.warmup_until_error is not None and (
            self.warmup_rate is None or self.warmup or self.warmup_steps or self.warmup_epochs
        ):
            raise ValueError("warmup_until_error needs warmup_rate, and no warmup")
        if self.warmup_rate is not None and self.warmup_from is not None:
            raise ValueError("warmup_rate stays, and warmup_from rises: set one of them to null")
        if self.shape == "steps" and (self.end or self.shape_from != "warmup"):
            raise ValueError("end and shape_from belong to shapes cosine and linear")
        return self


class FinetuneRecipe(_Section):
    """What of the network learns, when and how fast; its parts are stem, stages and classifier.

    A value that is "auto" is chosen by how many images a class has and by how far the weights are
    that training starts from; the run folder has what was chosen.
    """

    freeze: Annotated[int, Field(ge=0, le=100)] | Literal["all"] | None = Field(
        None,
        description="stages after the stem that keep the weights and statistics they begin with, "
        "and the stem with them; 0: the stem alone; all: everything but the classifier",
    )
    head_epochs: Epochs | Literal["auto"] = Field(
        0.0,
        description="epochs in which the classifier alone learns, at the peak rate; the schedule "
        "begins after them (Kumar et al. 2022)",
    )
    thaw: Epochs = Field(
        0.0,
        description="epochs after which one more stage learns, the last stage first, the stem at "
        "the end (Howard & Ruder 2018); 0: all stages at once",
    )
    layer_decay: Part | Literal["auto"] = Field(
        1.0,
        description="rate of each block as a part of the next one's; the last block's is that part "
        "of the classifier's, the stem's the least (Clark et al. 2020; timm's layer decay)",
    )
    rates: tuple[Multiple, ...] | None = Field(
        None,
        description="instead: what the rate is multiplied by in the stem, in each stage, and in "
        "the classifier",
    )
    batch_norm: Literal["learn", "keep_statistics", "keep"] = Field(
        "learn",
        description="keep_statistics: its means and variances stay those that the weights began "
        "with, and training normalises by them; keep: its scales and biases stay too",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rates is not None and self.layer_decay != 1:
            raise ValueError(
                "layer_decay and rates exclude each other: set layer_decay to 1, or rates to null"
            )
        return self


class DistillRecipe(_Section):
    """How a run learns from a teacher, where it has one (`resnets distill`).

    The loss is (1 - weight) that of the labels + weight temperature^2 KL(teacher || student).
    """

    temperature: float = Field(
        4.0,
        ge=0.01,
        le=100,
        description="what divides both networks' logits before their softmax (Hinton et al. 2015)",
    )
    weight: float = Field(
        0.9,
        ge=0,
        le=1,
        description="of the teacher's answers, the labels having the rest; 1: labels are not "
        "looked at (Beyer et al. 2022)",
    )


class AsymmetricRecipe(_Section):
    """The asymmetric loss: focal, with less weight on classes that an image does not have."""

    gamma_negative: Focus = Field(
        4.0, description="power of its probability that the loss of an absent class is weighed by"
    )
    gamma_positive: Focus = Field(
        1.0, description="power of what its probability lacks that a present class's is weighed by"
    )
    clip: Fraction = Field(
        0.05, description="what is taken from an absent class's probability, down to 0"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("gamma_negative", "gamma_positive"):
            if 0 < getattr(self, name) < 1:  # at a probability of 0 its gradient is infinite
                raise ValueError(f"{name} is 0, which weighs nothing, or 1 and more")
        return self


class Recipe(_Section):
    """A training recipe; ``source`` says where its values come from."""

    name: str = Field(
        pattern=r"^[\w.-]+$", description="of the recipe; part of the run folder's name"
    )
    source: str = Field("", description="where its values come from, for readers")
    batch_size: int = Field(
        128, ge=1, le=2**20, description="samples of one step, over all processes"
    )
    seed: Seed = Field(
        0, description="of the weights, the order of the samples and what augmentation draws"
    )
    loss: Literal["cross_entropy", "binary_cross_entropy", "asymmetric"] = Field(
        "cross_entropy",
        description="cross_entropy: of one of all classes; binary_cross_entropy: the mean over "
        "classes that each stand alone (Wightman et al. 2021); the best is still the answer; "
        "asymmetric: the same, easy absent classes counting less (Ben-Baruch et al. 2021). Where "
        "an image may have several classes, the second unless the third is set",
    )
    class_weights: Literal["none", "balanced", "effective"] = Field(
        "none",
        description="what an image's loss is multiplied by, 1 in the mean; balanced: the inverse "
        "of its class's number of images, as in scikit-learn; effective: of their effective "
        "number (Cui et al. 2019). Weights of the data set's own multiply it",
    )
    effective_beta: Fraction = Field(
        0.999,
        description="of effective: 0 weighs images alike, nearly 1 classes; 0.9 to 0.9999 in the "
        "paper",
    )
    label_smoothing: Fraction = Field(
        0.0,
        description="share of a label that is spread over all classes (Szegedy et al. 2016), or "
        "over yes and no where an image may have several",
    )
    target_threshold: Fraction | None = Field(
        None,
        description="with binary_cross_entropy: a class of more than this share of a mixed image "
        "counts whole, others not at all; null: by their shares",
    )
    drop_path: Fraction | None = Field(
        None,
        description="share of the steps in which the last block's residual branch is left out, of "
        "earlier ones less, image by image (Huang et al. 2016); null: the model's",
    )
    zero_init_residual: bool | None = Field(
        None,
        description="whether the last norm of each block starts at zero (Goyal et al. 2017, sec. "
        "5.1); null: as the model has it",
    )
    ema: Fraction = Field(
        0.0,
        description="decay per step of an exponential moving average of the weights, which is "
        "then what is evaluated and kept; 0: none",
    )
    ema_every: int = Field(
        1,
        ge=1,
        le=10**9,
        description="steps from one update of the average to the next; an epoch begins with one",
    )
    ema_form: Literal["tensorflow", "timm", "torchvision"] = Field(
        "tensorflow",
        description="of the decay; tensorflow: (1 + step) / (10 + step) at most; timm: "
        "1 - step^(-2/3) at most; torchvision: its distance from 1 times batch_size ema_every / "
        "epochs, and until the warm-up is over nothing is averaged",
    )
    precise_batch_norm: int = Field(
        0,
        ge=0,
        le=10**9,
        description="training samples over which batch norm's statistics are measured anew at "
        "the end, as true averages; 0: the running ones stay",
    )
    selection: Literal["last", "best"] = Field(
        "last", description="which weights are kept: the last, or the best on the held-out split"
    )
    soup: int = Field(
        0,
        ge=0,
        le=10**6,
        description="epochs, the last ones, of whose weights the average is kept (Izmailov et al. "
        "2018; Wortsman et al. 2022); 0: none",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of autocast; float16 scales the loss"
    )
    sync_batch_norm: bool = Field(
        True,
        description="with several processes, normalise over the batch of all of them; false: "
        "over each one's own",
    )
    data: DataRecipe = DataRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    asymmetric: AsymmetricRecipe = AsymmetricRecipe()
    optimizer: OptimizerRecipe = OptimizerRecipe()
    finetune: FinetuneRecipe = FinetuneRecipe()
    schedule: ScheduleRecipe
    distill: DistillRecipe = DistillRecipe()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.optimizer.accumulate > self.batch_size:
            raise ValueError("optimizer.accumulate must not exceed batch_size")
        for other, is_set in (
            ("selection best", self.selection == "best"),
            ("ema", self.ema),
            ("schedule.patience", self.schedule.patience),
        ):
            if self.soup and is_set:
                raise ValueError(f"soup and {other} exclude each other: each says what is kept")
        if self.precise_batch_norm and self.finetune.batch_norm != "learn":
            raise ValueError("precise_batch_norm measures what finetune.batch_norm keeps")
        if self.target_threshold is not None and self.loss != "binary_cross_entropy":
            raise ValueError("target_threshold belongs to loss binary_cross_entropy")
        if self.class_weights != "none" and self.data.sampling == "balanced":
            raise ValueError(
                "data.sampling balanced shows classes alike already: set class_weights to none"
            )
        return self

    @property
    def open(self) -> dict[str, tuple[str, ...]]:
        """The settings that are left to what is there, by section: those that are "auto"."""
        sections = {"finetune": self.finetune, "schedule": self.schedule}
        return {
            name: tuple(key for key, value in vars(section).items() if value == "auto")
            for name, section in sections.items()
        }

    def having(self, section: str, **values: Any) -> Self:
        """Return the recipe with values in one of its sections, which are not checked."""
        return self.model_copy(update={section: getattr(self, section).model_copy(update=values)})

    def choices(self, classes: int) -> int:
        """Return among how many the loss chooses: all classes, or each between yes and no."""
        return classes if self.loss == "cross_entropy" else 2

    def flat(self) -> dict[str, Any]:
        """Return every setting under its path, such as ``optimizer.lr``, as JSON-able values."""
        return {
            f"{section}.{key}" if key else section: value
            for section, values in self.model_dump(mode="json").items()
            for key, value in (values.items() if isinstance(values, dict) else [("", values)])
        }

    def to_yaml(self) -> str:
        """Return the recipe with every default written out."""
        return strict_yaml.dump(self.model_dump(mode="json"))


def setting_fields() -> dict[str, FieldInfo]:
    """Return every setting under its path, such as ``optimizer.lr``, in the order of `flat`."""
    found: dict[str, FieldInfo] = {}
    for name, field in Recipe.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found |= {f"{name}.{key}": inner for key, inner in section.model_fields.items()}
        else:
            found[name] = field
    return found


def how_to_set(
    name: str,
    value: str = "",
    recipe: str | Path | Recipe = "default",
    *,
    mistyped: bool = True,
) -> str:
    """Return the ``--set key=value`` that is meant by a name that is no key; empty when none is.

    A value that the key cannot have gives way to the recipe's, or to an example. ``mistyped`` lets
    the name be one that is near.
    """
    key = find_setting(name, list(setting_fields()), mistyped=mistyped)
    if not key:
        return ""
    current, example = load_recipe(recipe).flat()[key], _EXAMPLES.get(key, "")
    now = current if isinstance(current, str) else json.dumps(current)
    for text in (value, find_value(value), example, now):
        for beside in ((), _BESIDE.get(key, ())):
            settings = [f"{key}={text}", *beside]
            with suppress(UsageError):
                if text not in ("", "null"):
                    load_recipe(recipe, settings)
                    return " ".join(map(assignment, settings))
    return assignment(f"{key}=null")


# Values that stand for those that most recipes leave to the data.
_EXAMPLES = {
    "loss": "binary_cross_entropy",
    "precision": "bfloat16",
    "class_weights": "balanced",
    "data.sampling": "balanced",
    "drop_path": "0.05",
    "finetune.freeze": "all",
    "schedule.patience": "5",
    "zero_init_residual": "true",
    "data.eval_size": "256",
    "data.resize": "256",
    "data.repeats": "3",
    "data.classes": "{old: new}",
    "schedule.warmup_from": "0.01",
    "data.image_size": "64",
    "schedule.iterations": "1000",
    "optimizer.clip": "1",
    "augment.policy": "randaugment",
    "augment.jitter": "[0.4,0.4,0.4,0]",
}

# What has to be said beside a value that most recipes have other settings for: theirs are of SGD.
_BESIDE = {
    "optimizer.kind": (
        "optimizer.nesterov=false",
        "optimizer.momentum_form=torch",
        "optimizer.lr=0.001",
    )
}


def list_recipes() -> list[str]:
    """Return the names of the recipes inside the package."""
    folder = resources.files("resnets.training") / "recipes"
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))


def unnamed(weights: object) -> str:
    """Return the recipe that is meant where none is named, by what training starts from."""
    return "default" if weights is None else "auto"


def load_recipe(recipe: str | Path | Recipe, settings: Sequence[str] = ()) -> Recipe:
    """Return a recipe by name or from a YAML file, with settings such as ``optimizer.lr=0.05``.

    Raises UsageError for an unknown name, key or value, saying where it stands.
    """
    if not isinstance(recipe, str | Path | Recipe):
        raise UsageError(
            f"a recipe is a name or a YAML file, not a {type(recipe).__name__}",
            hint='settings=["schedule.epochs=1"] changes the default one',
        )
    settings = [settings] if isinstance(settings, str) else settings
    if not isinstance(settings, Sequence) or not all(isinstance(each, str) for each in settings):
        raise UsageError(
            f"settings are a list of texts, key=value, not a {type(settings).__name__} of others",
            hint='settings=["schedule.epochs=1", "batch_size=16"]',
        )
    if isinstance(recipe, Recipe):
        source, values = recipe.name, recipe.model_dump(mode="json", exclude_unset=True)
    else:
        source, values = str(recipe), strict_yaml.load(recipe_text(recipe), str(recipe))
    if not isinstance(values, dict):
        raise UsageError(f"{source}: a recipe is a mapping of keys to values")
    for setting in settings:
        _override(values, setting, recipe)
    try:
        # As JSON: types stay strict, and lists become tuples.
        return Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise _explain(source, error) from None


def recipe_text(recipe: str | Path) -> str:
    """Return the YAML of a recipe by name, or of a file. Raises UsageError: there is none."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        try:
            return read_text(path, strict_yaml.LARGEST)
        except (OSError, CheckpointError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.message
            raise UsageError(
                f"{path}: cannot be read as a recipe: {reason}", hint="give a YAML file or a name"
            ) from None
    names = list_recipes()
    if str(recipe) not in names:
        close = nearest(str(recipe).lower().replace("-", "_"), names)
        question = f"did you mean {close}?  " if close else ""
        choices = f"`resnets recipes` lists all {len(names)}; or give the path of a .yaml file"
        raise UsageError(
            f'no recipe is called "{recipe}"',
            hint=question + choices,
        )
    return (resources.files("resnets.training") / "recipes" / f"{recipe}.yaml").read_text(
        encoding="utf-8"
    )


_CROPS = {"padding": 0, "area": None, "scale": None, "shift": 0.0}  # without any


def _override(values: dict[str, Any], setting: str, recipe: str | Path | Recipe) -> None:
    """Apply one ``section.key=value`` to the values of a recipe."""
    path, equals, text = setting.partition("=")
    path = path.strip()
    *sections, key = path.split(".")
    if not equals or not key:
        raise UsageError(
            f'setting "{setting}" is not of the form key=value',
            hint=f"for example {how_to_set(path) or '--set optimizer.lr=0.05'}",
        )
    known = setting_fields()
    if path not in known and path not in Recipe.model_fields:
        if sections and sections[0] in known:
            raise UsageError(f'setting "{setting}": {sections[0]} is a value, not a section')
        source = recipe.name if isinstance(recipe, Recipe) else str(recipe)
        raise _unknown(source, path, how_to_set(path, text, recipe))
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(f'setting "{setting}": {section} is a value, not a section')
    values[key] = strict_yaml.load(text, f"--set {setting[:80]}")
    # Epochs and iterations exclude each other: the one that is set last stands.
    if sections == ["schedule"] and key in ("epochs", "iterations") and values[key] is not None:
        values[{"epochs": "iterations", "iterations": "epochs"}[key]] = None
    if sections == ["augment"] and key in _CROPS and values[key]:  # so do the ways to crop
        values |= {way: none for way, none in _CROPS.items() if way != key}
    if path == "schedule.warmup" and values[key] == 0:  # whoever says none means none
        values |= {"warmup_steps": 0, "warmup_epochs": 0}


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
        return _unknown(source, where, find_setting(where, list(setting_fields())))
    cause = first.get("ctx", {}).get("error")
    message = getattr(cause, "message", first["msg"].removeprefix("Value error, "))
    given = "" if isinstance(first["input"], dict) else f", not {first['input']!r}"
    return UsageError(
        f"recipe {source}: {where or 'recipe'}: {message}{given}",
        hint=getattr(cause, "hint", "")
        or "`--set key=value` and the recipe's own file are where values come from",
    )


def _unknown(source: str, key: str, close: str) -> UsageError:
    return UsageError(
        f'recipe {source}: unknown key "{key}"',
        hint=f"did you mean {close}?" if close else "`resnets train --settings` lists all of them",
    )


def read_recipe(path: Path) -> Recipe:
    """Return the recipe that a run has kept. Raises CheckpointError: it is missing or damaged."""
    try:
        return as_kept(load_recipe(path))
    except UsageError as error:
        reason = error.message.removeprefix("recipe ").removeprefix(str(path)).lstrip(":, ")
        raise damaged(path, reason) from None


def as_kept(recipe: Recipe) -> Recipe:
    """Return a recipe that a run has kept as the version that wrote it meant it."""
    if "view" in recipe.data.model_fields_set:
        return recipe
    return recipe.having("data", view="square")  # earlier ones knew squares alone
