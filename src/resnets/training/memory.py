"""How much memory a training step or a prediction takes at most, counted without computing it."""

import weakref
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from itertools import count
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resnets.analysis.profiling import profile
from resnets.errors import ResourceError, UsageError
from resnets.formatting import plural
from resnets.machine.available import available_memory
from resnets.nn import ResNet
from resnets.spec import Spec
from resnets.training.distillation import Teacher
from resnets.training.recipe import Recipe, ScheduleRecipe, load_recipe
from resnets.training.step import build_optimizer, training_step
from resnets.zoo import asked_spec

Phase = Literal["forward", "backward", "optimizer"]


@dataclass(frozen=True)
class Parts:
    """What memory is used for, in bytes."""

    weights: int  # parameters, and the statistics of norms
    gradients: int
    optimizer: int  # what it remembers from step to step
    batch: int  # images and labels
    activations: int  # everything else

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Memory:
    """What a training step or a prediction takes, in bytes.

    ``whole`` is how large each part becomes; of the activations, what the forward pass keeps for
    the backward pass. ``peak`` is what is there when most is, which is in ``phase``; ``layer`` is
    the one whose weights were used last then, if any.
    """

    whole: Parts
    peak: Parts
    phase: Phase
    layer: str

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, and the peak's total, as JSON-able values."""
        return {"total": self.peak.total, **asdict(self)}


# Bytes that no step takes for each activation of an image, and for each parameter
MOST_OF_ACTIVATION, MOST_OF_PARAMETER = 20, 32


def check_fits(
    spec: Spec,
    recipe: Recipe,
    *,
    batch: int,
    image: tuple[int, int, int],
    device: torch.device,
    checkpointing: bool = False,
    teacher: Teacher | None = None,
) -> None:
    """Raise ResourceError for a training step that is larger than the memory that is free.

    ``batch`` images (C, H, W) as the data set has them are computed by one process. A ``teacher``
    is in memory already, and what it computes comes to the step.
    """
    images = -(-batch // min(recipe.optimizer.accumulate, batch))
    free = free_memory(device)
    most, there = most_memory(spec, images), 0
    if teacher is not None:
        most += most_memory(replace(teacher.network.spec, image_size=spec.image_size), images)
        there = sum(t.numel() * t.element_size() for t in teacher.state_dict().values())
    if most + batch * prod(image) < free:
        return
    step = step_memory(spec, recipe, batch, checkpointing=checkpointing, teacher=teacher)
    needed = step.peak.total - there + batch * prod(image)
    if needed > free:
        raise ResourceError(
            f"a step of {plural(batch, 'image')} of {spec.image_size}x{spec.image_size} takes "
            f"{needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free",
            hint="lower data.image_size or batch_size, or raise optimizer.accumulate",
        )


def most_memory(spec: Spec, images: int) -> int:
    """Return bytes that a step on so many images at once does not exceed, in no time."""
    cost = profile(spec)
    return MOST_OF_ACTIVATION * cost.activations * images + MOST_OF_PARAMETER * cost.parameters


def step_memory(
    spec: Spec, recipe: Recipe, batch: int, *, checkpointing: bool, teacher: Teacher | None
) -> Memory:
    """Return the memory of a step of a recipe, of which one process computes ``batch`` images."""
    return peak_memory(
        spec,
        batch_size=batch,
        precision=recipe.precision,
        optimizer=recipe.optimizer.kind,
        accumulate=min(recipe.optimizer.accumulate, batch),
        checkpointing=checkpointing,
        teacher=teacher,
    )


def free_memory(device: torch.device) -> int:
    """Return the bytes that can be used where a step is computed."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


def peak_memory(
    model: str | Spec,
    *,
    batch_size: int = 32,
    training: bool = True,
    precision: str = "float32",
    optimizer: str = "sgd",
    accumulate: int = 1,
    checkpointing: bool = False,
    image_size: int | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    teacher: Teacher | None = None,
) -> Memory:
    """Return the peak memory of one training step, or of a prediction with ``training=False``.

    The step is training's own, the optimizer's memory being there already: ``precision``,
    ``optimizer`` and ``accumulate`` are as in recipes, ``checkpointing`` keeps only the inputs of
    blocks and computes the rest again; a ``teacher``'s answers are learnt beside the labels, and
    its weights are among the weights. A prediction is in float32.

    It is run on tensors without values, and the storages alive at once are counted, exactly and
    alike on every machine. Not among them is what a process holds besides: workspaces inside
    operators, what allocators round up or keep, the interpreter, the data set, averaged weights.

    Raises UsageError for an unknown name or value, and for a batch that norms cannot train on.
    """
    spec = asked_spec(
        model, image_size=image_size, num_classes=num_classes, in_channels=in_channels
    )
    if not 1 <= accumulate <= batch_size:
        raise UsageError(
            f"a batch of {batch_size} cannot be computed in {accumulate} parts",
            hint="lower accumulate or raise batch_size",
        )
    settings = {
        "batch_size": batch_size,
        "precision": precision,
        "optimizer.kind": optimizer,
        "optimizer.accumulate": accumulate,
    }
    recipe = load_recipe(
        Recipe(name="peak_memory", schedule=ScheduleRecipe(iterations=1)),
        [f"{key}={value}" for key, value in settings.items()],
    )
    with torch.device("meta"):
        network = ResNet(spec)
    if checkpointing:
        network.recompute_stages()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Without ``allow_non_fake_inputs`` those on the meta device would be refused.
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        network.to_empty(device="cpu")
        with FakeCopyMode(fake):
            taught_by = deepcopy(teacher)
        images = torch.empty(batch_size, spec.in_channels, spec.image_size, spec.image_size)
        images = images.to(memory_format=torch.channels_last)
        return _train(network, images, recipe, taught_by) if training else _predict(network, images)


def _train(network: ResNet, images: Tensor, recipe: Recipe, teacher: Teacher | None) -> Memory:
    labels = torch.empty(len(images), dtype=torch.int64)
    optimizer = build_optimizer(network, recipe.optimizer)
    ledger = _Ledger(network, images, labels, teacher=teacher)
    optimizer.register_step_pre_hook(lambda *_: ledger.enter("optimizer"))
    with ledger:
        for _ in range(2):  # the optimizer remembers nothing before the first
            ledger.begin()
            try:
                training_step(
                    network.train(),
                    optimizer,
                    images,
                    labels,
                    labels,
                    lr=recipe.optimizer.peak,
                    teacher=teacher,
                    recipe=recipe,  # without a scaler for float16, which is a few numbers
                )
            except ValueError as error:  # from batch norms
                raise UsageError(
                    f"{network.spec.name} cannot train on this batch: {error}",
                    hint="raise batch_size or image_size, or divide the batch less",
                ) from None
    remembered = [value for state in optimizer.state.values() for value in state.values()]
    return ledger.close([p.grad for p in network.parameters()], remembered)


def _predict(network: ResNet, images: Tensor) -> Memory:
    ledger = _Ledger(network, images)
    with ledger, torch.no_grad():  # inference mode would not show what is inside of operators
        network.eval()(images)
    return ledger.close()


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps account of the storages that are alive, which views and changes in place share."""

    def __init__(self, network: ResNet, *batch: Tensor, teacher: Teacher | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # What has come, in bytes, and gone: copies of all that is alive would be many in deep nets.
        self.events: list[tuple[int, int | None]] = []  # by the storage's number
        self.total = 0  # bytes that are alive
        self.numbers: dict[int, int] = {}  # by the id of those alive; ids are used again
        self.fresh = count()
        self.layers: dict[int, str] = {}  # by the number of their parameters and buffers
        for module, before in ((network, ""), (teacher, "teacher.")):
            if module is not None:
                for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                    self.layers[self.number(tensor)] = before + name.rpartition(".")[0]
        self.batch = {self.number(tensor) for tensor in batch}
        network.register_forward_pre_hook(lambda *_: self.enter("forward"))
        self.begin()

    def begin(self) -> None:
        """Forget what has been the most so far."""
        self.highest = self.most = 0  # bytes, and how many events had been then
        self.highest_kept = self.kept = 0  # the same at the end of a forward pass
        self.enter("forward")

    def enter(self, phase: Phase) -> None:
        """Note which phase the step is in."""
        self.phase, self.layer = phase, ""

    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor's storage, which is entered if it is new."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self.numbers:
            number = self.numbers[key] = next(self.fresh)
            size = storage.nbytes()
            self.events.append((number, size))
            self.total += size
            weakref.finalize(storage, self._gone, key, size)
        return self.numbers[key]

    def _gone(self, key: int, size: int) -> None:
        self.events.append((self.numbers.pop(key), None))
        self.total -= size

    def alive(self, moment: int | None = None) -> dict[int, int]:
        """Return the bytes of what was alive after so many events, by number; after all of them."""
        found: dict[int, int] = {}
        for number, size in self.events[:moment]:
            if size is None:
                del found[number]
            else:
                found[number] = size
        return found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator, and enter what it returns."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1  # there is no value; let losses and norms be finite
        if self.phase == "forward" and "backward" in func.__name__:
            if self.total > self.highest_kept:
                self.highest_kept, self.kept = self.total, len(self.events)
            self.enter("backward")
        for tensor in args:
            if isinstance(tensor, Tensor):
                self.layer = self.layers.get(self.number(tensor), self.layer)
        if self._adds_gradients(func, args):
            func = torch.ops.aten.add_.Tensor
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.number(tensor)
        if self.total > self.highest:
            self.highest, self.most = self.total, len(self.events)
            self.when = self.phase, "" if self.phase == "optimizer" else self.layer
        return result

    def _adds_gradients(self, func: Any, args: Any) -> bool:
        """Whether two gradients of one map meet: autograd writes the sum over the first of them.

        It does not where it sees that someone is counting.
        """
        if func is not torch.ops.aten.add.Tensor or self.phase != "backward":
            return False
        whole = args[0].nbytes == args[0].untyped_storage().nbytes()
        return whole and not torch.is_grad_enabled()  # else a block is computed again

    def close(
        self, gradients: Iterable[Tensor | None] = (), optimizer: Iterable[Any] = ()
    ) -> Memory:
        """Return what was most, divided by what it was for."""
        groups = {
            "weights": set(self.layers),
            "gradients": {self.number(g) for g in gradients if g is not None},
            "optimizer": {self.number(t) for t in optimizer if isinstance(t, Tensor)},
            "batch": self.batch,
        }

        def parts(alive: dict[int, int]) -> Parts:
            sizes = {
                name: sum(alive.get(number, 0) for number in group)
                for name, group in groups.items()
            }
            return Parts(**sizes, activations=sum(alive.values()) - sum(sizes.values()))

        kept = parts(self.alive(self.kept)).activations
        whole = replace(parts(self.alive()), activations=kept)
        return Memory(whole, parts(self.alive(self.most)), *self.when)
