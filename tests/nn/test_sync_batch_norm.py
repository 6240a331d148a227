"""Batch norm over several processes, against torch's own on the whole batch, in float64."""

from functools import cache

import pytest
import torch
from torch import nn

from launching import launch
from resnets.nn import ResNet
from resnets.nn.activation_checkpointing import RecomputedStage
from resnets.nn.freezing import FixedBatchNorm2d, fix_statistics
from resnets.nn.sync_batch_norm import SynchronousBatchNorm2d, synchronize
from resnets.zoo import get_spec

CHANNELS, SIDE = 3, 4
# Images of each process, step by step.
PARTS = {2: [(5, 2), (7, 0), (0, 1)], 3: [(4, 0, 3), (1, 1, 5), (0, 0, 2)]}
both = pytest.mark.parametrize("count", [2, 3])


class Recomputed(nn.Module):
    """Two layers of which nothing is kept for the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.stage = RecomputedStage(convolution, nn.BatchNorm2d(CHANNELS))

    def forward(self, x):
        return self.stage(x)


MODELS = {
    "norm": lambda: nn.BatchNorm2d(CHANNELS, eps=1e-3, momentum=0.3),
    "true average": lambda: nn.BatchNorm2d(CHANNELS, momentum=None),
    "no scale": lambda: nn.BatchNorm2d(CHANNELS, affine=False),
    "no statistics": lambda: nn.BatchNorm2d(CHANNELS, track_running_stats=False),
    "layers": lambda: nn.Sequential(
        nn.Conv2d(CHANNELS, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 4, 1),
        nn.BatchNorm2d(4),
    ),
    "recomputed": Recomputed,
}


def build(name: str) -> nn.Module:
    torch.manual_seed(1)
    model = MODELS[name]().double()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def pictures(count: int, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    shape = (sum(PARTS[count][step]), CHANNELS, SIDE, SIDE)
    return 2 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def train(model: nn.Module, batches: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
    """Pass some batches forward and back; the loss weighs each output by what it is."""
    found = {"outputs": [], "inputs": []}
    for x in batches:
        x = x.clone().requires_grad_()
        output = model(x)
        (output * output.detach().sin()).sum().backward()
        found["outputs"].append(output.detach())
        found["inputs"].append(x.grad)
    found["parameters"] = [parameter.grad for parameter in model.parameters()]
    found["buffers"] = list(model.buffers())
    return found


def train_part(processes) -> dict:
    parts = PARTS[processes.count]
    batches = [
        pictures(processes.count, step).split(sizes)[processes.rank]
        for step, sizes in enumerate(parts)
    ]
    found = {}
    for name in MODELS:
        model = nn.Sequential(build(name))
        synchronize(model)
        found[name] = train(model, batches)
    model.eval()
    found["evaluated"] = model(batches[0]).detach() if processes.is_first else None
    norm = SynchronousBatchNorm2d(CHANNELS, momentum=1).double()
    norm(1e4 + batches[0])
    found["far from 0"] = norm.running_var
    for kind in (torch.float32, torch.bfloat16):
        norm = SynchronousBatchNorm2d(CHANNELS)
        found[kind] = train(norm, [batches[0].to(kind)])
    try:
        norm(torch.ones(1 if processes.is_first else 0, CHANNELS, 1, 1))
    except ValueError as error:
        found["one value"] = str(error)
    return found


@cache
def trained(count: int) -> list[dict]:
    return launch(count, train_part)


def close(found, expected, tolerance=1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@both
@pytest.mark.parametrize("name", MODELS)
def test_as_one_batch_norm_on_the_whole_batch(count, name):
    steps = range(len(PARTS[count]))
    whole = train(build(name), [pictures(count, step) for step in steps])
    parts = [answers[name] for answers in trained(count)]
    for kind in ("outputs", "inputs"):
        close([torch.cat([part[kind][step] for part in parts]) for step in steps], whole[kind])
    gradients = zip(*(part["parameters"] for part in parts), strict=True)
    close([sum(shares) for shares in gradients], whole["parameters"])
    for part in parts:
        close(part["buffers"], whole["buffers"])
        assert all(map(torch.equal, part["buffers"], parts[0]["buffers"]))


@both
def test_variance_of_values_far_from_zero(count):
    """The difference of squares, 1e8 each, would be off by 1e-9 and more."""
    x = 1e4 + pictures(count, 0)
    for answers in trained(count):
        close(answers["far from 0"], x.var(dim=(0, 2, 3)), 1e-11)


@both
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-6)])
def test_lower_precision(count, kind, tolerance):
    """Statistics are computed in float32; a few roundings of the kind itself remain."""
    norm = nn.BatchNorm2d(CHANNELS)
    whole = train(norm, [pictures(count, 0).to(kind)])
    parts = [answers[kind] for answers in trained(count)]
    for name in ("outputs", "inputs"):
        found = torch.cat([part[name][0] for part in parts])
        assert found.dtype == kind
        close(found, whole[name][0], tolerance)
    for part in parts:
        close(part["buffers"], whole["buffers"], 1e-5)


@both
def test_evaluation_asks_nobody(count):
    model = build("recomputed")
    train(model, [pictures(count, step) for step in range(len(PARTS[count]))])
    expected = model.eval()(pictures(count, 0)[: PARTS[count][0][0]])
    close(trained(count)[0]["evaluated"], expected.detach())


@both
def test_one_value_has_no_variance(count):
    for answers in trained(count):
        assert answers["one value"] == "batch norm needs 2 values per channel to train, not 1"


def test_synchronizing_changes_nothing_else():
    model = ResNet(get_spec("resnet20"))
    before = dict(model.named_modules())
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    fix_statistics(model, [model.layer1])
    model.layer2[0].bn1.eval()
    fixed = {k: m for k, m in model.named_modules() if isinstance(m, FixedBatchNorm2d)}
    synchronize(model)
    after = dict(model.named_modules())
    assert list(after) == list(before)
    assert fixed
    for name, module in after.items():
        if name in fixed:
            assert module is fixed[name]
            assert type(module) is FixedBatchNorm2d
        else:
            assert module is before[name]
            assert type(module) is not nn.BatchNorm2d
        assert module.training == (name != "layer2.0.bn1")
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert tensor is tensors[name]


def test_in_one_process_it_is_torchs():
    x = torch.randn(4, CHANNELS, 5, 5)
    plain, own = nn.BatchNorm2d(CHANNELS), SynchronousBatchNorm2d(CHANNELS)
    for _ in range(2):
        assert own(x).equal(plain(x))
        assert all(map(torch.equal, own.buffers(), plain.buffers()))
        plain.eval(), own.eval()
