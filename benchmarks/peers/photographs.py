"""Other people's loaders over a folder of photographs, each by its own recipe for ImageNet.

Every function returns what opens the data and gives endless batches of 64, by their sizes: a random
crop by area at 224, a random flip, in random order; normalised float32 (N, C, H, W), or uint8 where
``floats`` is false. What it imports is imported before the clock runs.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from harness.libraries import import_library

BATCH, SIZE = 64, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Begin = Callable[[], Iterator[int]]


def endless(loader: Iterable[Any]) -> Iterator[int]:
    """Yield the sizes of a loader's batches, epoch after epoch."""
    while True:
        for images, _ in loader:
            yield len(images)


def reference(floats: bool) -> Any:
    """Return the transform of torchvision's references/classification, on Pillow's images."""
    transforms = import_library("torchvision").transforms
    last = [transforms.ConvertImageDtype(import_library("torch").float)]
    last.append(transforms.Normalize(MEAN, STD))
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(0.5),
            transforms.PILToTensor(),
            *(last if floats else []),
        ]
    )


def torchvision(folder: Path, workers: int, floats: bool) -> Begin:
    library = import_library("torchvision")
    from torch.utils.data import DataLoader

    def begin() -> Iterator[int]:
        data = library.datasets.ImageFolder(str(folder), reference(floats))
        loader = DataLoader(
            data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
        return endless(loader)

    return begin


def timm(folder: Path, workers: int) -> Begin:
    """timm's own, but for its colour jitter."""
    import_library("timm")
    import torch
    from timm.data import create_dataset, create_loader

    def begin() -> Iterator[int]:
        loader = create_loader(
            create_dataset("", str(folder)),
            (3, SIZE, SIZE),
            BATCH,
            is_training=True,
            color_jitter=0.0,
            interpolation="bilinear",
            num_workers=workers,
            persistent_workers=workers > 0,
            device=torch.device("cpu"),
        )
        return endless(loader)

    return begin


def webdataset(shards: Path, workers: int, floats: bool) -> Begin:
    """Shards in random order, and a buffer of 1,000 encoded images, as its documentation has it."""
    transform = reference(floats)
    import webdataset as wds

    def begin() -> Iterator[int]:
        paths = sorted(map(str, shards.glob("*.tar")))
        data = wds.WebDataset(paths, shardshuffle=len(paths), empty_check=False)
        data = data.shuffle(1000).decode("pil").to_tuple("jpg", "cls").map_tuple(transform, int)
        loader = wds.WebLoader(
            data.batched(BATCH),
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        return endless(loader)

    return begin


def dali(folder: Path, workers: int, floats: bool) -> Begin:
    """NVIDIA's example for ImageNet on the CPU: it decodes the window alone."""
    import torch
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=workers, device_id=None, seed=0)
    def pipeline() -> Any:
        files, labels = fn.readers.file(file_root=str(folder), random_shuffle=True, name="files")
        images = fn.decoders.image_random_crop(files, device="cpu", output_type=types.RGB)
        images = fn.resize(images, size=(SIZE, SIZE), interp_type=types.INTERP_LINEAR)
        mirror = fn.random.coin_flip()
        if not floats:
            return fn.flip(images, horizontal=mirror), labels
        normalise = partial(fn.crop_mirror_normalize, dtype=types.FLOAT, output_layout="CHW")
        mean, std = ([255 * value for value in values] for values in (MEAN, STD))
        return normalise(images, mean=mean, std=std, mirror=mirror), labels

    def begin() -> Iterator[int]:
        made = pipeline()
        made.build()

        def batches() -> Iterator[tuple[Any, Any]]:
            while True:
                # A copy, as its iterators for torch make one: the next run writes over it.
                yield tuple(torch.from_numpy(part.as_array()) for part in made.run())

        return endless(batches())

    return begin
