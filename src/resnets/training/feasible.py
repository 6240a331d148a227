"""Whether a recipe, a data set and a network go together; said before anything is computed."""

from resnets.analysis.profiling import Profile
from resnets.data.dataset import Dataset
from resnets.data.order import batch_bounds
from resnets.errors import UsageError
from resnets.training.recipe import Recipe


def check(recipe: Recipe, dataset: Dataset, cost: Profile, processes: int = 1) -> None:
    """Raise UsageError when images, crops, batches and parts do not fit each other.

    ``cost`` is of the size that is trained at; a batch is divided among so many ``processes``.
    """
    augment, size = recipe.augment, cost.image_size
    channels, side, _ = dataset.train.images.shape
    _, *middle, last, _ = cost.stages
    stages = len(middle) + 1
    bounds = batch_bounds(len(dataset.train), recipe.batch_size, recipe.data.repeats)
    seen = recipe.data.eval_size or size
    divided = recipe.optimizer.accumulate * (1 if recipe.sync_batch_norm else processes)
    smallest = min(stop - start for start, stop in bounds) // divided  # batch norm's least part
    for wrong, message, hint in (
        (
            size > side,
            f"data.image_size is {size}, but {dataset.name} has images of {side}",
            "leave it out or lower it",
        ),
        (
            seen > side,
            f"data.eval_size is {seen}, but {dataset.name} has images of {side}",
            "leave it out or lower it",
        ),
        (
            recipe.data.resize not in (None, side) and not augment.scale,
            f"data.resize is {recipe.data.resize}, but {dataset.name} has images of {side}",
            "set it to null: it is for folders of images",
        ),
        (
            augment.scale and recipe.data.fit != "crop",
            f"data.fit {recipe.data.fit} keeps whole images at the size that is seen, and "
            "augment.scale cuts crops out of larger ones",
            "set augment.scale to null; augment.area cuts smaller parts",
        ),
        (
            size < side and recipe.data.fit != "crop",
            f"data.fit {recipe.data.fit} shows whole images, but those of {dataset.name} are "
            f"stored at {side} and data.image_size is {size}",
            "leave data.image_size out, or set data.fit to crop",
        ),
        (
            augment.fill == "reflect" and augment.padding >= side,
            f"augment.padding is {augment.padding}: an image of {side} pixels cannot be "
            "reflected so far",
            "lower it",
        ),
        (
            augment.scale and augment.scale[0] < size,
            f"augment.scale is {augment.scale}, and a crop takes {size} pixels of it",
            "raise it or lower data.image_size",
        ),
        (
            augment.lighting and channels != 3,
            f"augment.lighting is for three colours, not {channels} channels",
            "set it to 0",
        ),
        (
            (augment.policy or augment.jitter) and channels not in (1, 3),
            f"augment.policy and augment.jitter are for 1 channel or 3, not {channels}",
            "set them to null",
        ),
        *(
            (
                differs and recipe.data.normalize == "pixel_mean",
                f"{key} and the mean image exclude each other: it has one size",
                "set data.normalize to channel",
            )
            for key, differs in (
                ("augment.first_size", augment.first_size),
                ("data.eval_size", seen != size),
            )
        ),
        (
            dataset.several
            and (recipe.class_weights != "none" or recipe.data.sampling != "uniform"),
            "class_weights and data.sampling balance one class an image, and those of "
            f"{dataset.name} may have several",
            "set class_weights to none and data.sampling to uniform; loss=asymmetric weighs absent "
            "classes less",
        ),
        *(
            (
                looks and dataset.validation is None,
                f"{setting} looks at a held-out split, and there is none",
                "set data.holdout",
            )
            for setting, looks in (
                ("selection best", recipe.selection == "best"),
                ("schedule.plateau_factor", recipe.schedule.plateau_factor),
                ("schedule.patience", recipe.schedule.patience),
            )
        ),
        (
            isinstance(recipe.finetune.freeze, int) and recipe.finetune.freeze > stages,
            f"finetune.freeze is {recipe.finetune.freeze}, and the network has {stages} stages",
            "lower it, or set it to all",
        ),
        (
            recipe.finetune.rates is not None and len(recipe.finetune.rates) != stages + 2,
            f"finetune.rates has {len(recipe.finetune.rates or ())} numbers, and it takes "
            f"{stages + 2}: of the stem, {stages} stages and the classifier",
            "give as many",
        ),
        (
            last.output[1:] == (1, 1) and smallest <= 1,
            "batch norm cannot train on a single image whose last maps are 1x1, and the smallest "
            f"batch is divided by {divided}",
            "raise batch_size or data.image_size, or divide it less",
        ),
    ):
        if wrong:
            raise UsageError(message, hint=hint)
