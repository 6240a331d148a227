"""Freezing: what is frozen stays bit for bit, whatever is done to the model."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from launching import launch
from resnets import Backbone, create_backbone, get_spec
from resnets.machine.processes import Processes
from resnets.nn.freezing import FixedBatchNorm2d

SPEC = get_spec("resnet14")  # three stages of two blocks


def backbone(**options):
    torch.manual_seed(0)
    return Backbone(SPEC, **options)


def snapshot(model):
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def train(model, steps=3, optimizer=None, set_to_none=True):
    """Steps of SGD with momentum and weight decay over all parameters, as people write them."""
    optimizer = optimizer or torch.optim.SGD(
        model.parameters(), 0.1, momentum=0.9, weight_decay=0.01
    )
    model.train()
    for _ in range(steps):
        maps = model(torch.randn(4, 3, 32, 32))
        loss = sum(x.square().mean() for x in maps.values())
        optimizer.zero_grad(set_to_none)
        loss.backward()
        optimizer.step()
    return model


def stage_of(key: str) -> int:
    return int(key[5]) if key.startswith("layer") else 0


def changed(before, after):
    return {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}


@pytest.mark.parametrize("frozen", [-1, 0, 1, 2, 3])
def test_frozen_stages(frozen):
    """Parameters, statistics and batch counts: -1 nothing, 0 the stem, k the stem and k stages."""
    model = backbone(frozen_stages=frozen)
    before = snapshot(model)
    if frozen == 3:
        model.train()
        maps = model(torch.randn(4, 3, 32, 32))
        assert not any(x.requires_grad for x in maps.values())
    else:
        train(model)
    expected = {key for key in before if stage_of(key) > frozen}
    assert changed(before, model.state_dict()) == expected


def modules_train(model):
    for module in model.modules():
        module.train()
    return model


def flags_flipped(model):
    parent = nn.Sequential(model)
    parent.requires_grad_(True)
    parent.train()
    return model


def flags_flipped_by_hand(model):
    for parameter in model.parameters():
        parameter.requires_grad = True
    return model


def pickled(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def reloaded(model):
    model.load_state_dict(model.state_dict())
    return model


def assigned(model):
    model.load_state_dict(snapshot(model), assign=True)
    return model


def averaged(model):
    """What stochastic weight averaging does to batch norms at its end."""
    torch.optim.swa_utils.update_bn([torch.randn(2, 3, 32, 32)], model)
    return model


def compiled(model):
    torch._dynamo.reset()
    return torch.compile(model, fullgraph=True, backend="aot_eager")


TREATMENTS: dict[str, Callable] = {
    "none": lambda model: model,
    "evaluated": lambda model: model.eval(),
    "every module set to training": modules_train,
    "the flag itself": lambda m: [setattr(x, "training", True) for x in m.modules()] and m,
    "parent requires gradients": flags_flipped,
    "all flags set by hand": flags_flipped_by_hand,
    "requires gradients": lambda model: model.requires_grad_(True),
    "no gradients, then gradients": lambda m: m.requires_grad_(False).requires_grad_(True),
    "deepcopied": copy.deepcopy,
    "pickled": pickled,
    "reloaded": reloaded,
    "assigned": assigned,
    "moved": lambda model: model.to(torch.float64).to(torch.float32),
    "channels last": lambda model: model.to(memory_format=torch.channels_last),
    "averaged": averaged,
    "compiled": compiled,
}


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_freezing_survives(treatment, checkpointing):
    model = backbone(frozen_stages=1, gradient_checkpointing=checkpointing)
    before = snapshot(model)
    treated = TREATMENTS[treatment](model)
    train(treated)
    after = getattr(treated, "_orig_mod", treated).state_dict()
    assert changed(before, after) == {key for key in before if stage_of(key) > 1}
    counts = {after[key].item() for key in after if "tracked" in key and stage_of(key) > 1}
    assert counts == {3 if treatment != "averaged" else 4}


def test_conversion_to_synchronised_norms_passes_frozen_ones_over():
    """They train on several GPUs only, hence without steps."""
    model = nn.SyncBatchNorm.convert_sync_batchnorm(backbone(frozen_stages=1)).train()
    assert isinstance(model.layer2[0].bn1, nn.SyncBatchNorm)
    assert isinstance(model.bn1, FixedBatchNorm2d)
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in model.layer1.modules())


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("norm_eval", [False, True])
def test_batch_norms_alone(statistics, affine, norm_eval):
    choice = {(0, 0): "none", (1, 0): "stats", (0, 1): "affine", (1, 1): "both"}
    model = backbone(freeze_bn=choice[statistics, affine], norm_eval=norm_eval)
    before = snapshot(model)
    train(model)
    norms = {key for key in before if ".bn" in key or key.startswith("bn1")}
    norms |= {key for key in before if ".downsample.1." in key}
    buffers = {key for key in norms if "running" in key or "tracked" in key}
    frozen = buffers if statistics or norm_eval else set()
    frozen = frozen | (norms - buffers if affine else set())
    assert changed(before, model.state_dict()) == before.keys() - frozen


def test_frozen_norms_use_their_statistics_and_random_layers_are_off():
    torch.manual_seed(0)
    spec = get_spec("resnet14")
    model = Backbone(SPEC, frozen_stages=1)
    other = Backbone(type(spec)(**{**spec.to_dict(), "drop_path": 0.5}), frozen_stages=1)
    other.load_state_dict(model.state_dict())
    x = torch.randn(4, 3, 32, 32)
    expected = model.eval()(x)
    for training in (model.train(), other.train(), modules_train(model)):
        maps = training(x)
        assert torch.equal(maps["c2"], expected["c2"])
        assert not torch.equal(maps["c3"], expected["c3"])


class Kept:
    """How many tensors, and bytes of them, a forward pass keeps for the backward pass."""

    def __init__(self, model: nn.Module, x: torch.Tensor) -> None:
        self.count = self.bytes = 0
        own = {p.data_ptr() for p in model.parameters()}

        def pack(tensor):
            if tensor.data_ptr() not in own:
                self.count += 1
                self.bytes += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(x)


def test_a_frozen_part_keeps_nothing():
    x = torch.randn(4, 3, 32, 32)
    kept = [Kept(backbone(frozen_stages=k), x).bytes for k in (-1, 0, 1, 2, 3)]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == 0
    assert len(set(kept)) == 5
    # Whoever sets all flags by hand gets no graph either.
    assert Kept(flags_flipped_by_hand(backbone(frozen_stages=3)), x).count == 0


def test_gradient_checkpointing_keeps_less_and_changes_nothing():
    x = torch.randn(4, 3, 32, 32)
    plain, twin = backbone(), backbone(gradient_checkpointing=True)
    assert Kept(twin, x).bytes < Kept(plain, x).bytes / 2
    plain, twin = backbone(), backbone(gradient_checkpointing=True)
    for model in (plain, twin):
        torch.manual_seed(1)
        train(model)
    assert not changed(snapshot(plain), snapshot(twin))  # counts and statistics too
    assert plain.layer1[0].bn1.num_batches_tracked == 3


def test_gradient_checkpointing_repeats_random_layers():
    options = {**SPEC.to_dict(), "drop_path": 0.5}
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = Backbone(type(SPEC)(**options), gradient_checkpointing=checkpointing)
        results.append(snapshot(train(model)))
    assert not changed(*results)


def test_a_frozen_part_passes_gradients_on_to_its_input():
    """To layers that someone puts before it, or images that are learned."""
    frozen, free = backbone(frozen_stages=3), backbone(norm_eval=True)
    gradients = []
    for model in (frozen, free):
        x = torch.ones(2, 3, 32, 32, requires_grad=True)
        sum(m.square().mean() for m in model.train()(x).values()).backward()
        gradients.append(x.grad)
    assert gradients[0].abs().sum() > 0
    assert torch.equal(*gradients)
    assert all(p.grad is None for p in frozen.parameters())


def test_freezing_and_unfreezing_under_an_optimizer():
    """Momentum does not go on moving what is frozen; what is frozen no longer learns again."""
    model = backbone()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    objects = list(map(id, model.parameters()))
    train(model, optimizer=optimizer)
    for frozen in (2, 0, -1, 1):
        model.freeze(frozen)
        before = snapshot(model)
        train(model, 2, optimizer, set_to_none=False)  # momentum and decay would act on zeros
        assert changed(before, model.state_dict()) == {k for k in before if stage_of(k) > frozen}
    assert list(map(id, model.parameters())) == objects
    model.freeze(freeze_bn="both")
    assert {p.requires_grad for p in model.bn1.parameters()} == {False}
    model.freeze()
    assert all(p.requires_grad for p in model.parameters())
    assert isinstance(model.bn1, nn.BatchNorm2d)


@pytest.mark.parametrize("flip", [Backbone.requires_grad_, Backbone.train])
def test_flags_are_put_right(flip):
    model = backbone(frozen_stages=1, freeze_bn="affine")
    frozen = {id(p) for p in model.frozen_parameters()}
    assert id(model.layer3[0].bn1.weight) in frozen
    flip(flags_flipped_by_hand(model))
    assert {id(p) for p in model.parameters() if not p.requires_grad} == frozen
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())


def test_an_optimizer_of_what_learns():
    model = backbone(frozen_stages=1)
    learning = [p for p in model.parameters() if p.requires_grad]
    frozen = list(model.frozen_parameters())
    assert len(learning) + len(frozen) == len(list(model.parameters()))
    train(model, optimizer=torch.optim.AdamW(learning, 0.01))
    assert all(p.grad is None for p in frozen)


def test_frozen_final_norm_of_preactivation_nets():
    torch.manual_seed(0)
    model = Backbone(get_spec("resnet20_v2"), activated=True, frozen_stages=2)
    before = snapshot(model)
    train(model)
    expected = {key for key in before if key.startswith(("layer3", "norm"))}
    assert changed(before, model.state_dict()) == expected
    model.freeze(3)
    assert not any(p.requires_grad for p in model.parameters())


def test_preactivation_nets_freeze_the_norm_that_activates():
    """The norm after stage 2 is stage 3's."""
    torch.manual_seed(0)
    model = Backbone(get_spec("resnet20_v2"), levels=["c3"], activated=True, frozen_stages=2)
    before = snapshot(model)
    train(model)
    assert changed(before, model.state_dict()) == {k for k in before if k.startswith("layer3")}


def test_other_norms():
    torch.manual_seed(0)
    spec = {**SPEC.to_dict(), "norm": "group"}
    model = Backbone(type(SPEC)(**spec), frozen_stages=1, norm_eval=True)
    before = snapshot(model)
    train(model)
    assert changed(before, model.state_dict()) == {key for key in before if stage_of(key) > 1}
    frozen = Backbone(type(SPEC)(**{**spec, "norm": "frozen_batch"}), frozen_stages=1)
    assert frozen(torch.randn(2, 3, 32, 32))["c4"].requires_grad


def test_states_travel_between_frozen_and_not():
    frozen, free = backbone(frozen_stages=2, freeze_bn="both"), backbone()
    train(free)
    frozen.load_state_dict(free.state_dict())
    assert not changed(snapshot(free), snapshot(frozen))
    x = torch.randn(2, 3, 33, 47)
    for a, b in zip(frozen.eval()(x).values(), free.eval()(x).values(), strict=True):
        assert torch.equal(a, b)


def train_together(processes: Processes) -> tuple[dict, dict]:
    model = backbone(frozen_stages=1, gradient_checkpointing=True)
    before = snapshot(model)
    # Without find_unused_parameters: what gets no gradient must not be waited for.
    parallel = nn.parallel.DistributedDataParallel(model)
    torch.manual_seed(processes.rank)
    train(parallel)
    return before, snapshot(model)


def test_two_processes():
    results = launch(2, train_together)
    for before, after in results:
        assert changed(before, after) == {key for key in before if stage_of(key) > 1}
    parameters = {key for key in results[0][1] if not key.endswith(("mean", "var"))}
    different = changed(results[0][1], results[1][1])
    assert not different & parameters  # statistics are each process's own


def test_create_backbone_freezes():
    with pytest.warns(UserWarning, match="freezes what is random"):
        model = create_backbone("resnet14", frozen_stages=1, freeze_bn="both")
    assert (model.freezing.frozen_stages, model.freezing.freeze_bn) == (1, "both")
    trained = F.relu(model(torch.randn(2, 3, 32, 32))["c4"])
    assert trained.requires_grad
