"""One step: gradients, optimizers and refusals, against float64, torch's own and recurrences."""

import copy
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from launching import launch
from resnets.errors import NonFiniteError
from resnets.machine.processes import Processes
from resnets.nn.sync_batch_norm import synchronize
from resnets.training.optimizers import orthogonalize
from resnets.training.recipe import OptimizerRecipe, Recipe
from resnets.training.step import Outcome, build_optimizer, training_step


def model(norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(4) if norm else nn.GroupNorm(2, 4)
    layers = nn.Conv2d(3, 4, 3), middle, nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    return nn.Sequential(*layers).double()


def batch(count: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    images = torch.randn(count, 3, 6, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (count,), generator=generator)
    return images, labels, labels


def recipe(batch_size: int = 12, **values) -> Recipe:
    schedule = {"epochs": 1}
    return Recipe(name="test", batch_size=batch_size, schedule=schedule, **values)


def optimizing(**values) -> Recipe:
    return recipe(optimizer=OptimizerRecipe(**values))


def step(net: nn.Module, plan: Recipe, *data: Tensor, lr: float = 0.1, **options) -> Outcome:
    optimizer = build_optimizer(net, plan.optimizer)
    return training_step(net, optimizer, *(data or batch()), lr=lr, recipe=plan, **options)


def gradients(net: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters()]


def close(found, wanted, tolerance: float = 1e-12) -> None:
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def snapshot(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    state = [v for p in net.parameters() for v in optimizer.state[p].values()]
    return [tensor.detach().clone() for tensor in (*net.parameters(), *state)]


def same(found: list[Tensor], wanted: list[Tensor]) -> bool:
    return all(a.equal(b) for a, b in zip(found, wanted, strict=True))


def test_a_step_is_torchs():
    net, theirs = model(norm=True), model(norm=True)
    images, labels, _ = batch()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    logits = theirs(images)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    optimizer.step()
    plan = optimizing(momentum=0.0, weight_decay=0.0)
    outcome = step(net, plan)
    close(net.state_dict().values(), theirs.state_dict().values())
    assert outcome.samples == 12
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-12)
    assert outcome.correct == (logits.argmax(1) == labels).sum()
    assert not outcome.skipped


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("count", [12, 7])
@pytest.mark.parametrize("parts", [1, 2, 5, 12])
def test_parts_give_the_gradient_of_the_mean_loss(parts, count, mixed, smoothing):
    images, targets, labels = batch(count)
    if mixed:
        targets = torch.rand(count, 5, dtype=torch.float64).softmax(1)
    whole, net = model(), model()
    loss = F.cross_entropy(whole(images), targets, label_smoothing=smoothing)
    loss.backward()
    plan = recipe(optimizer=OptimizerRecipe(accumulate=parts), label_smoothing=smoothing)
    outcome = step(net, plan, images, targets, labels)
    close(gradients(net), gradients(whole))
    assert outcome.samples == count
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-12)
    assert outcome.correct == (whole(images).argmax(1) == labels).sum()


@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("parts", [1, 5])
def test_binary_cross_entropy_is_torchs_of_soft_targets(parts, mixed, smoothing, threshold):
    """Smoothed as timm smooths what is mixed: each label, before they are mixed."""
    images, labels, others = *batch()[:2], batch(13)[1][:12]
    share = torch.linspace(0, 1, 12, dtype=torch.float64)[:, None] if mixed else torch.ones(12, 1)
    first, second = (F.one_hot(kind, 5).double() for kind in (labels, others))
    on, off = 1 - smoothing + smoothing / 5, smoothing / 5
    smooth = [kind * on + (1 - kind) * off for kind in (first, second)]
    wanted = smooth[0] * share + smooth[1] * (1 - share)
    if threshold is not None:
        wanted = wanted.gt(threshold).double()
    targets = share * first + (1 - share) * second if mixed else labels
    whole, net = model(), model()
    loss = nn.BCEWithLogitsLoss()(whole(images), wanted)
    loss.backward()
    plan = recipe(
        optimizer=OptimizerRecipe(accumulate=parts),
        loss="binary_cross_entropy",
        label_smoothing=smoothing,
        target_threshold=threshold,
    )
    outcome = step(net, plan, images, targets, labels)
    close(gradients(net), gradients(whole))
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-12)
    assert outcome.correct == (whole(images).argmax(1) == labels).sum()


def losses(logits: Tensor, targets: Tensor, plan: Recipe) -> list[Tensor]:
    """The loss of each sample, from the definition."""
    found = []
    for row, target in zip(logits, targets, strict=True):
        smooth = target * (1 - plan.label_smoothing) + plan.label_smoothing / len(row)
        if plan.loss == "cross_entropy":
            found.append(-(smooth * row.log_softmax(0)).sum())
        else:
            own, other = F.logsigmoid(row), F.logsigmoid(-row)
            found.append(-(smooth * own + (1 - smooth) * other).mean())
    return found


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("count", "parts"), [(12, 1), (7, 1), (12, 5)])
def test_weights_are_factors_of_the_samples_losses(count, parts, mixed, smoothing, loss):
    """A plain loop over the samples: the mean over samples, not over their weights."""
    images, targets, labels = batch(count)
    if mixed:
        targets = torch.rand(count, 5, dtype=torch.float64).softmax(1)
    weights = torch.rand(count) * 3
    weights[2] = 0
    plan = recipe(optimizer=OptimizerRecipe(accumulate=parts), label_smoothing=smoothing, loss=loss)
    whole, net = model(), model()
    shares = targets if mixed else F.one_hot(targets, 5).double()
    each = losses(whole(images), shares, plan)
    mean = sum(w * one for w, one in zip(weights.double(), each, strict=True)) / count
    mean.backward()
    outcome = step(net, plan, images, targets, labels, weights)
    close(gradients(net), gradients(whole))
    assert outcome.loss == pytest.approx(mean.item(), rel=1e-12)
    assert outcome.samples == count


def test_parts_are_no_larger_than_they_must_be_and_never_empty():
    net, seen = model(), []
    net.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    step(net, optimizing(accumulate=5))
    step(net, optimizing(accumulate=5), *batch(3))
    assert seen == [3, 3, 2, 2, 2, 1, 1, 1]


def test_gradients_travel_once_however_many_parts():
    net, opened = model(), []

    @contextmanager
    def no_sync():
        opened.append(len(opened))
        yield

    net.no_sync = no_sync
    step(net, optimizing(accumulate=4))
    assert len(opened) == 3


def test_each_part_is_normalised_alone():
    images, labels, _ = batch()
    net, theirs = model(norm=True), model(norm=True)
    halves = zip(images.chunk(2), labels.chunk(2), strict=True)
    losses = [F.cross_entropy(theirs(x), y) for x, y in halves]
    (sum(losses) / 2).backward()
    step(net, optimizing(accumulate=2))
    close(gradients(net), gradients(theirs))


@pytest.mark.parametrize("limit", [1e-3, 0.5, 1e3])
@pytest.mark.parametrize("count", [12, 7])
def test_clipping_is_torchs(limit, count):
    images, labels, _ = batch(count)
    net, theirs = model(), model()
    F.cross_entropy(theirs(images), labels).backward()
    before = nn.utils.clip_grad_norm_(theirs.parameters(), limit)
    step(net, optimizing(clip=limit), images, labels, labels)
    close(gradients(net), gradients(theirs))
    norm = nn.utils.get_total_norm(gradients(net))
    assert norm <= min(limit, before) * (1 + 1e-12)


def run(values: dict, rates: list[float]) -> tuple[list[Tensor], list[list[Tensor]], list[Tensor]]:
    """Step by random gradients; return the parameters before, each step's gradients, and after."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Linear(2, 2, bias=False)).double()
    start = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer = build_optimizer(net, OptimizerRecipe(**values))
    given = []
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        given.append([torch.randn_like(parameter) for parameter in start])
        for parameter, gradient in zip(net.parameters(), given[-1], strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return start, given, [parameter.detach() for parameter in net.parameters()]


KINDS = [
    {},
    {"momentum_form": "caffe"},
    {"kind": "adam"},
    {"kind": "adamw"},
    {"kind": "lamb", "weight_decay": 0.1},
]
RATES = [0.1, 0.1, 0.1, 0.01, 0.01, 0.05, 0.001, 0.001]


def recurrence(weight: Tensor, given: list[Tensor], decay: float, rule: str) -> Tensor:
    """Steps over ``RATES``, as the papers and libraries write them."""
    v = s = 0.0
    for t, (rate, gradient) in enumerate(zip(RATES, given, strict=True), start=1):
        g = gradient + decay * weight
        if rule == "caffe":
            v = 0.9 * v + rate * g
            weight = weight - v
        elif rule in ("adam", "adamw", "lamb", "lambc"):  # Kingma & Ba 2015, algorithm 1
            g = g if rule == "adam" else gradient
            v = 0.9 * v + (1 - 0.9) * g
            s = 0.99 * s + (1 - 0.99) * g**2
            move = (v / (1 - 0.9**t)) / ((s / (1 - 0.99**t)) ** 0.5 + 1e-7)
            if rule != "adam":  # Loshchilov & Hutter 2019, algorithm 2
                move = move + decay * weight
            if rule.startswith("lamb") and decay:  # You et al. 2020, algorithm 2
                trust = (weight**2).sum() ** 0.5 / (move**2).sum() ** 0.5
                move = move * (min(trust, 1.0) if rule == "lambc" else trust)
            weight = weight - rate * move
        else:
            v = 0.9 * v + g
            weight = weight - rate * (g + 0.9 * v if rule == "nesterov" else v)
    return weight


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("torch", {}),
        ("nesterov", {"nesterov": True}),
        ("caffe", {"momentum_form": "caffe"}),
        ("adam", {"kind": "adam", "second_momentum": 0.99}),
        ("adamw", {"kind": "adamw", "second_momentum": 0.99}),
        ("lamb", {"kind": "lamb", "second_momentum": 0.99}),
        ("lambc", {"kind": "lamb", "second_momentum": 0.99, "trust_clip": True}),
    ],
)
@pytest.mark.parametrize(
    ("scope", "decayed"),
    [
        ("convolutions", [True, False, False]),
        ("weights", [True, False, True]),
        ("all", [True, True, True]),
    ],
)
def test_optimizers_are_their_recurrences(rule, values, scope, decayed):
    start, given, end = run({"weight_decay": 0.3, "decay": scope, **values}, RATES)
    for number, (weight, decay) in enumerate(zip(start, decayed, strict=True)):
        own = [gradient[number] for gradient in given]
        wanted = recurrence(weight, own, 0.3 if decay else 0.0, rule)
        torch.testing.assert_close(end[number], wanted, rtol=1e-12, atol=1e-12)


def test_what_decays_is_told_by_what_it_belongs_to():
    """As torchvision's split_normalization_params: a norm's bias is none of "biases"."""
    scopes = {
        "convolutions": [1, 0, 0, 0, 0, 0],
        "weights": [1, 0, 0, 0, 1, 0],
        "biases": [1, 1, 0, 0, 1, 1],
        "all": [1, 1, 1, 1, 1, 1],
    }
    for norm in (False, True):
        for scope, wanted in scopes.items():
            net = model(norm)
            optimizer = build_optimizer(net, OptimizerRecipe(weight_decay=0.5, decay=scope))
            decays = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
            assert [decays[p] for p in net.parameters()] == [0.5 * decayed for decayed in wanted]


@pytest.mark.parametrize("clip", [False, True])
def test_lamb_trusts_no_norm_that_is_zero(clip):
    """A tensor of zeros, or one that should not move, moves as by Adam with decay."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)).double()
    zero, still = net.parameters()
    nn.init.zeros_(zero)
    nn.init.constant_(still, 0.5)
    plan = OptimizerRecipe(kind="lamb", weight_decay=0.25, epsilon=1e-7, trust_clip=clip)
    optimizer = build_optimizer(net, plan)
    optimizer.param_groups[0]["lr"] = 0.1
    zero.grad = torch.full_like(zero, 3.0)
    # The first step is g / (|g| + epsilon): this one and the decay, 0.25 * 0.5, are opposite.
    still.grad = torch.full_like(still, -1e-7 / 7)
    optimizer.step()
    assert zero.item() == pytest.approx(-0.1, rel=1e-7)
    assert still.item() == pytest.approx(0.5, abs=1e-9)


def test_caffes_momentum_differs_only_where_the_rate_changes():
    ends = {}
    for form in ("torch", "caffe"):
        for rates in ((0.1,) * 6, (0.1, 0.1, 0.01, 0.01)):
            _, _, end = run({"momentum_form": form}, rates)
            ends[form, rates] = end
    close(ends["torch", (0.1,) * 6], ends["caffe", (0.1,) * 6])
    dropped = [ends[form, (0.1, 0.1, 0.01, 0.01)][0] for form in ("torch", "caffe")]
    assert (dropped[0] - dropped[1]).abs().max() > 1e-2


@pytest.mark.parametrize("values", KINDS)
def test_the_rate_of_a_step_is_the_one_given(values):
    ends = []
    for lr in (0.1, 0.2):
        net = model()
        start = [parameter.detach().clone() for parameter in net.parameters()]
        step(net, optimizing(**{"weight_decay": 0.0, **values}), lr=lr)
        moves = zip(net.parameters(), start, strict=True)
        ends.append([(now - before).detach() for now, before in moves])
    close(ends[1], [2 * move for move in ends[0]])


@pytest.mark.parametrize("values", KINDS)
def test_frozen_parameters_stay(values):
    net = model()
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    step(net, optimizing(decay="all", **values))
    assert net[0].weight.equal(before)


def infinite_gradient(net: nn.Module) -> None:
    net[0].bias.register_hook(lambda gradient: gradient * torch.inf)


def loss_of_nan(net: nn.Module) -> None:
    net.register_forward_hook(lambda _, __, logits: logits * torch.nan)


def loss_of_infinity(net: nn.Module) -> None:
    net.register_forward_hook(
        lambda _, __, logits: logits.masked_fill(F.one_hot(batch()[1], 5).bool(), -torch.inf)
    )


def too_long(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.register_hook(lambda gradient: gradient * 0 + 1e200)


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (infinite_gradient, "the gradient of 0.bias is NaN or infinite"),
        (loss_of_nan, "the loss is nan"),
        (loss_of_infinity, "the loss is inf"),
        (too_long, "the gradient's norm is NaN or infinite"),
    ],
)
def test_what_is_not_finite_is_refused_before_anything_changes(spoil, message, values):
    net, plan = model(), optimizing(**values)
    optimizer = build_optimizer(net, plan.optimizer)
    training_step(net, optimizer, *batch(), lr=0.1, recipe=plan)
    before = snapshot(net, optimizer)
    spoil(net)
    with pytest.raises(NonFiniteError) as caught:
        training_step(net, optimizer, *batch(), lr=0.01, recipe=plan)
    assert caught.value.message == message
    assert same(snapshot(net, optimizer), before)
    assert optimizer.param_groups[0]["lr"] == 0.1


def half(scale: float) -> tuple[nn.Module, Recipe, torch.amp.GradScaler]:
    return model().float(), recipe(precision="float16"), torch.amp.GradScaler("cpu", scale)


def floats() -> tuple[Tensor, Tensor, Tensor]:
    images, targets, labels = batch()
    return images.float(), targets, labels


def test_an_infinite_gradient_in_float16_is_a_skipped_step():
    net, plan, scaler = half(1e30)
    optimizer = build_optimizer(net, plan.optimizer)
    before = snapshot(net, optimizer)
    outcome = training_step(net, optimizer, *floats(), lr=0.1, recipe=plan, scaler=scaler)
    assert outcome.skipped
    assert outcome.samples == 12
    assert 0.5 < outcome.loss < 5
    assert same(snapshot(net, optimizer), before)
    assert scaler.get_scale() == pytest.approx(0.5e30)


def test_a_gradient_that_no_scale_helps_is_no_skipped_step():
    net, plan, scaler = half(1.0)
    net[0].weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteError, match=r"the gradient of 0.weight is NaN or infinite at any"):
        step(net, plan, *floats(), scaler=scaler)


def test_weights_are_scaled_as_losses_are():
    images, targets, labels, weights = *floats(), torch.linspace(0, 3, 12)
    net, plan, scaler = half(1024.0)
    whole = copy.deepcopy(net)
    (F.cross_entropy(whole(images), targets, reduction="none") * weights).mean().backward()
    outcome = step(net, plan, images, targets, labels, weights, scaler=scaler)
    assert not outcome.skipped
    close(gradients(net), gradients(whole), 1e-2)  # of half precision's 11 bits


def test_scaled_steps_are_unscaled_and_clipped():
    net, plan, scaler = half(1024.0)
    plan = plan.model_copy(update={"optimizer": OptimizerRecipe(clip=1e-2)})
    whole = copy.deepcopy(net)
    images, targets, labels = floats()
    F.cross_entropy(whole(images), targets).backward()
    outcome = step(net, plan, images, targets, labels, scaler=scaler)
    assert not outcome.skipped
    norms = [nn.utils.get_total_norm(gradients(n)) for n in (net, whole)]
    assert norms[0] == pytest.approx(1e-2, rel=1e-4)
    wanted = [gradient * (norms[0] / norms[1]) for gradient in gradients(whole)]
    close(gradients(net), wanted, 2e-4)  # float16 has 11 bits; the norm is 1e-2


def test_a_loss_of_nan_in_float16_is_no_skipped_step():
    net, plan, scaler = half(1.0)
    loss_of_nan(net)
    with pytest.raises(NonFiniteError, match="the loss is nan"):
        step(net, plan, *floats(), scaler=scaler)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_is_of_the_layers_not_of_the_loss(precision):
    net, seen = model().float(), []
    net.register_forward_hook(lambda _, __, logits: seen.append(logits.detach()))
    images, targets, labels = floats()
    outcome = step(net, recipe(precision=precision), images, targets, labels)
    (logits,) = seen
    assert logits.dtype == getattr(torch, precision)
    loss = F.cross_entropy(logits.double(), targets).item()
    assert outcome.loss == pytest.approx(loss, rel=1e-6)
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in net.parameters())


def weighted_batch(count: int) -> tuple[Tensor, ...]:
    return *batch(count), torch.linspace(0, 2, count)


def in_parts(processes: Processes, count: int, parts: int, spoil=None) -> tuple:
    """Take two steps of a net with synchronous norms, by this process's share of each batch."""
    net = model(norm=True)
    synchronize(net)
    if spoil and processes.is_first:
        spoil(net)
    plan = optimizing(accumulate=parts, clip=0.5)
    optimizer = build_optimizer(net, plan.optimizer)
    parallel = DistributedDataParallel(net, broadcast_buffers=False)
    outcomes = []
    for size in (12, count):
        mine = [tensor[processes.part(size)] for tensor in weighted_batch(size)]
        outcomes.append(
            training_step(parallel, optimizer, *mine, lr=0.1, recipe=plan, processes=processes)
        )
    return outcomes, net.state_dict()


@pytest.mark.parametrize(("count", "parts"), [(12, 1), (7, 1), (1, 1), (12, 2)])
def test_several_processes_take_the_step_of_one(count, parts):
    """Also when the last batch is small, or too small for each to have a sample."""
    net, plan = model(norm=True), optimizing(accumulate=parts, clip=0.5)
    optimizer = build_optimizer(net, plan.optimizer)
    wanted = []
    for size in (12, count):
        data = weighted_batch(size)
        if parts == 2:  # each process halves its own part: the same four quarters, in pairs
            order = torch.tensor([0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11])
            data = tuple(column[order] for column in data)
        wanted.append(training_step(net, optimizer, *data, lr=0.1, recipe=plan))
    for outcomes, state in launch(2, in_parts, count, parts):
        close(state.values(), net.state_dict().values(), 1e-9)
        for found, outcome in zip(outcomes, wanted, strict=True):
            assert (found.samples, found.correct) == (outcome.samples, outcome.correct)
            assert found.loss == pytest.approx(outcome.loss, rel=1e-9)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (loss_of_nan, "the loss is nan"),
        (infinite_gradient, "the gradient of 0.bias is NaN or infinite"),
    ],
)
def test_all_processes_refuse_what_one_finds(spoil, message):
    for error in launch(2, in_parts, 12, 1, spoil):
        assert isinstance(error, NonFiniteError)
        assert error.message == message


def test_muon_is_sgd_but_for_orthogonal_matrices():
    """One step by hand: with singular vectors, which Newton-Schulz must leave as they are."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(32, 5)
    net = nn.Sequential(*layers).double()
    before = [p.detach().clone() for p in net.parameters()]
    plan = optimizing(kind="muon", lr=0.4, matrix_lr=0.05, weight_decay=0.01)
    step(net, plan, lr=0.2)
    for number, (p, old) in enumerate(zip(net.parameters(), before, strict=True)):
        if number == 2:  # the weight of the second convolution
            old = old * len(p) ** 0.5 / old.norm()
            moved = (old - p).flatten(1) / 0.025
            u, _, v = torch.linalg.svd(p.grad.flatten(1), full_matrices=False)
            inner = u.mT @ moved @ v.mT
            values = inner.diagonal()
            assert (inner - values.diag()).abs().max() < 1e-9
            assert 0.5 < values.min() <= values.max() < 1.3
        else:
            gradient = p.grad + 0.01 * old * (p.ndim > 1)
            torch.testing.assert_close(p, old - 0.2 * 1.9 * gradient, rtol=1e-10, atol=1e-12)


def test_matrices_are_orthogonal_whatever_their_shape():
    torch.manual_seed(0)
    for rows, columns in ((6, 20), (20, 6), (1, 9)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(3, rows, columns).double()))
        assert 0.5 < values.min() <= values.max() < 1.3
