"""What else could make a training step faster on a CPU, one lever at a time.

usage: python benchmarks/levers.py [--model resnet20] [--batch 128] [--size 32] [--rounds 8]
       [--steps 6] [--only NAME ...]

All variants live in one process and take turns, the order reversed every round. For each: seconds
of a step, and processor seconds of all its threads, which other jobs on the machine disturb less;
as ratios to the plain step of the same round (above 1: the lever is faster), medians over the
rounds, and how far its first step's gradients are from float64, beside the plain step's own.
"""

import argparse
import copy
import ctypes
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets import create_model
from resnets.machine.cpu import keep_large_blocks
from resnets.nn.blocks import BasicBlock
from resnets.nn.shortcuts import Sum


def keep(norm: nn.BatchNorm2d, weight: Tensor, bias: Tensor) -> None:
    """Give a norm its gradients, which these functions do not return."""
    for parameter, found in ((norm.weight, weight), (norm.bias, bias)):
        parameter.grad = found if parameter.grad is None else parameter.grad + found


def normalise(norm: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x normalised, and what `before_norm` needs: the means, 1 / the deviations."""
    norm.num_batches_tracked.add_(1)
    memory = norm.running_mean, norm.running_var
    return torch.native_batch_norm(
        x, norm.weight, norm.bias, *memory, True, norm.momentum, norm.eps
    )


def before_norm(
    norm: nn.BatchNorm2d, gradient: Tensor, x: Tensor, mean: Tensor, scale: Tensor
) -> Tensor:
    """Return the gradient of x, and keep the norm's own."""
    memory = norm.running_mean, norm.running_var
    before, weight, bias = torch.ops.aten.native_batch_norm_backward(
        gradient, x, norm.weight, *memory, mean, scale, True, norm.eps, [True, True, True]
    )
    keep(norm, weight, bias)
    return before


class NormAddRelu(torch.autograd.Function):
    """relu(batch norm(x) + shortcut), written over the norm's own output, forward and backward."""

    @staticmethod
    def forward(ctx, x: Tensor, shortcut: Tensor | None, norm: nn.BatchNorm2d) -> Tensor:
        y, mean, scale = normalise(norm, x)
        if shortcut is not None:
            y.add_(shortcut)
        y.relu_()
        ctx.norm, ctx.adds = norm, shortcut is not None
        ctx.save_for_backward(x, mean, scale, y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, mean, scale, y = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        before = before_norm(ctx.norm, gradient, x, mean, scale)
        return before, gradient if ctx.adds else None, None


class Recomputed(torch.autograd.Function):
    """relu(batch norm(x) + shortcut), of which backward keeps x and computes the rest again."""

    @staticmethod
    def forward(ctx, x: Tensor, shortcut: Tensor | None, norm: nn.BatchNorm2d) -> Tensor:
        y, mean, scale = normalise(norm, x)
        ctx.norm = norm
        ctx.save_for_backward(x, mean, scale, shortcut)
        return (y if shortcut is None else y.add_(shortcut)).relu_()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, mean, scale, shortcut = ctx.saved_tensors
        norm = ctx.norm
        factor = scale * norm.weight
        offset = norm.bias - mean * factor
        y = torch.addcmul(offset[:, None, None], x, factor[:, None, None])
        if shortcut is not None:
            y.add_(shortcut)
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        before = before_norm(norm, gradient, x, mean, scale)
        return before, gradient if shortcut is not None else None, None


@cache
def compiled() -> ctypes.CDLL | None:
    """Return norm.c's functions, in torch's own OpenMP threads; None without a C compiler."""
    flags = "-O3 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fopenmp"
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, *flags.split(), "-shared", "-fPIC", "-o", f"{folder}/norm.so"]
        subprocess.run([*command, Path(__file__).with_name("norm.c")], check=True)
        return ctypes.CDLL(f"{folder}/norm.so")


class CompiledNormAddRelu(torch.autograd.Function):
    """relu(batch norm(x) + shortcut) by norm.c: two passes forward, two backward."""

    @staticmethod
    def forward(ctx, x: Tensor, shortcut: Tensor | None, norm: nn.BatchNorm2d) -> Tensor:
        norm.num_batches_tracked.add_(1)
        memory = norm.running_mean, norm.running_var
        y, (mean, scale) = torch.empty_like(x), x.new_empty(2, x.shape[1])
        compiled().norm_forward(
            *_at(x, shortcut, norm.weight, norm.bias, *memory, y, mean, scale),
            *map(ctypes.c_double, (norm.momentum, norm.eps)),
            *map(ctypes.c_long, (x.numel() // x.shape[1], x.shape[1])),
        )
        ctx.norm, ctx.adds = norm, shortcut is not None
        ctx.save_for_backward(x, mean, scale, y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, mean, scale, y = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        before, other = torch.empty_like(x), torch.empty_like(x) if ctx.adds else None
        norm, (weight, bias) = ctx.norm, x.new_empty(2, x.shape[1])
        compiled().norm_backward(
            *_at(gradient, y, x, norm.weight, mean, scale, before, other, weight, bias),
            *map(ctypes.c_long, (x.numel() // x.shape[1], x.shape[1])),
        )
        keep(norm, weight, bias)
        return before, other, None


def _at(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(t.data_ptr() if t is not None else None) for t in tensors]


class Relu(torch.autograd.Function):
    """ReLU that writes its gradient over the one that it is given, which nobody else may hold."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        ctx.save_for_backward(x.relu_())
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (y,) = ctx.saved_tensors
        if not gradient.is_contiguous(memory_format=torch.channels_last):  # an average's: expanded
            return torch.ops.aten.threshold_backward(gradient, y, 0)
        return torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)


class WeightByProduct(torch.autograd.Function):
    """A 3x3 convolution whose weight gradient is one product over all unfolded windows."""

    @staticmethod
    def forward(ctx, x: Tensor, convolution: nn.Conv2d) -> Tensor:
        ctx.convolution = convolution
        ctx.save_for_backward(x)
        return F.conv2d(x, convolution.weight, None, convolution.stride, convolution.padding)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (x,) = ctx.saved_tensors
        layer = ctx.convolution
        before, _, _ = torch.ops.aten.convolution_backward(
            gradient, x, layer.weight, None, layer.stride, layer.padding, (1, 1), False, (0, 0), 1,
            [True, False, False],
        )  # fmt: skip
        padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
        windows = padded.unfold(1, 3, layer.stride[0]).unfold(2, 3, layer.stride[1])
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
        weight = (rows.T @ windows.reshape(len(rows), -1)).view(layer.weight.shape)
        layer.weight.grad = weight if layer.weight.grad is None else layer.weight.grad + weight
        return before, None


@contextmanager
def replaced(module: type[nn.Module], forward: Callable):
    kept = module.forward
    module.forward = forward
    try:
        yield
    finally:
        module.forward = kept


def tails(function: type[torch.autograd.Function]):
    """Let basic blocks compute norm, addition and activation by one function."""

    def forward(self: BasicBlock, x: Tensor) -> Tensor:
        y = function.apply(self.conv1(x), None, self.bn1)
        return function.apply(self.conv2(y), self.downsample(x), self.bn2)

    return replaced(BasicBlock, forward)


def weight_products():
    kept = nn.Conv2d.forward

    def forward(self: nn.Conv2d, x: Tensor) -> Tensor:
        fits = self.kernel_size == (3, 3) and self.groups == 1 and x.requires_grad
        return WeightByProduct.apply(x, self) if fits else kept(self, x)

    return replaced(nn.Conv2d, forward)


def added_in_place():
    return replaced(Sum, lambda self, shortcut, residual: residual.add_(shortcut))


def relu_gradient_in_place():
    return replaced(nn.ReLU, lambda self, x: Relu.apply(x))


class Variant:
    """A model of its own, its optimizer, and how it takes a step."""

    def __init__(
        self,
        model: nn.Module,
        around: Callable = nullcontext,
        parts: int = 1,
        memory_format: torch.memory_format = torch.channels_last,
        **optimizer: bool,
    ) -> None:
        self.model = copy.deepcopy(model).to(memory_format=memory_format)
        self.around, self.parts, self.memory_format = around, parts, memory_format
        options = optimizer or {"foreach": True}
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, 0.9, **options)

    def gradients(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        self.optimizer.zero_grad()
        images = images.contiguous(memory_format=self.memory_format)
        with self.around():
            for x, y in zip(images.chunk(self.parts), labels.chunk(self.parts), strict=True):
                (F.cross_entropy(self.model(x), y) / self.parts).backward()
        return [p.grad.double() for p in self.model.parameters()]

    def step(self, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad()
        with self.around():
            for x, y in zip(images.chunk(self.parts), labels.chunk(self.parts), strict=True):
                (F.cross_entropy(self.model(x), y) / self.parts).backward()
        self.optimizer.step()


def distance(found: list[Tensor], exact: list[Tensor]) -> float:
    """Return the largest relative distance of any parameter's gradient."""
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    keep_large_blocks()  # as `resnets train` does
    torch.manual_seed(0)
    model = create_model(options.model)
    images = torch.randn(options.batch, 3, options.size, options.size)
    labels = torch.randint(10, (options.batch,))
    exact = Variant(model.double()).gradients(images.double(), labels)
    model.float()
    variants = {
        "plain": Variant(model),
        "NCHW": Variant(model, memory_format=torch.contiguous_format),
        "addition in place": Variant(model, added_in_place),
        "ReLU's gradient in place": Variant(model, relu_gradient_in_place),
        "norm, addition, ReLU as one": Variant(model, lambda: tails(NormAddRelu)),
        "the same, computed again": Variant(model, lambda: tails(Recomputed)),
        "the same as one, compiled": Variant(model, lambda: tails(CompiledNormAddRelu)),
        "weight gradients by unfolding": Variant(model, weight_products),
        "two micro-batches": Variant(model, parts=2),
        "four micro-batches": Variant(model, parts=4),
        "optimizer fused": Variant(model, fused=True),
        "optimizer one by one": Variant(model, foreach=False),
    }
    if options.only:
        variants = {n: v for n, v in variants.items() if n in ("plain", *options.only)}
    if "the same as one, compiled" in variants and compiled() is None:
        del variants["the same as one, compiled"]
    far = {name: distance(v.gradients(images, labels), exact) for name, v in variants.items()}
    inputs = {
        name: images.contiguous(memory_format=variant.memory_format)
        for name, variant in variants.items()
    }
    wall: dict[str, list[float]] = {name: [] for name in variants}
    processor: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(options.rounds + 1):
        for name in list(variants)[:: -1 if number % 2 else 1]:
            variants[name].step(inputs[name], labels)
            began, used = time.perf_counter(), time.process_time()
            for _ in range(options.steps):
                variants[name].step(inputs[name], labels)
            if number:  # the first round warms up
                wall[name].append((time.perf_counter() - began) / options.steps)
                processor[name].append((time.process_time() - used) / options.steps)
    print(f"{options.model}, batch {options.batch}, {options.size} x {options.size}, ", end="")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':32s} ms a step   faster by   (quartiles)     processor ms   by      from float64")
    for name in variants:
        ratios = [a / b for a, b in zip(wall["plain"], wall[name], strict=True)]
        use = [a / b for a, b in zip(processor["plain"], processor[name], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:32s} {1000 * statistics.median(wall[name]):9.1f}   "
            f"{statistics.median(ratios):9.3f}   ({low:.3f} to {high:.3f})"
            f"{1000 * statistics.median(processor[name]):16.1f}   {statistics.median(use):.3f}"
            f"   {far[name]:.1e}"
        )


if __name__ == "__main__":
    main()
