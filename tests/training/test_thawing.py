"""What learns when, and how fast: frozen parts, gradual thawing, rates by depth, early stopping."""

import copy
import json
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from forks import forked
from runs import run
from safetensors.torch import load_file
from test_distributed import close, made  # noqa: F401
from test_killed import goes_on, kill, sitting, steps_of

from resnets.errors import UsageError
from resnets.models import create_model
from resnets.report.page import write_report
from resnets.run_folder.directory import RunFolder
from resnets.spec import Spec
from resnets.training.audit import audit
from resnets.training.recipe import FinetuneRecipe, load_recipe
from resnets.training.step import build_optimizer, training_step
from resnets.training.thawing import Thawing
from resnets.zoo import get_spec

NARROW = replace(get_spec("resnet8"), widths=(4, 8, 16), stem_width=4)  # three stages of a block
# Five steps an epoch, and of the options of `runs` none that would hide what is looked at.
PLAIN = (
    "schedule.epochs=3",
    "schedule.warmup_until_error=null",
    "schedule.warmup_rate=null",
    "schedule.plateau_factor=null",
    "ema=0",
    "precise_batch_norm=0",
    "selection=last",
    "optimizer.accumulate=1",
    "optimizer.nesterov=true",
    "augment.first_size=null",
)
CONSTANT = ("schedule.shape=steps", "schedule.warmup_steps=0")


def weights(seed: int = 1, spec: Spec = NARROW) -> dict[str, torch.Tensor]:
    """Return weights to start from, with statistics that are no network's first."""
    torch.manual_seed(seed)
    network = create_model(replace(spec, num_classes=2))
    network.train()(torch.randn(16, 3, 12, 12))
    return network.state_dict()


def fine_tuned(out, *settings: str, model: Spec = NARROW, **options):
    """Return the weights before and after a run, whose held-out split has 10 of 48 images."""
    given = weights(spec=model)
    start = partial(run, model=model, weights=given, **options)
    found = forked(start, out, *PLAIN, *settings)
    if isinstance(found, Exception):
        raise found
    return given, load_file(out / "model.safetensors")


def metrics(out) -> list[dict]:
    return [json.loads(line) for line in RunFolder(out).metrics.read_text().splitlines()]


def changed(before: dict, after: dict) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


def part_of(key: str) -> str:
    first = key.split(".")[0]
    return first if first.startswith("layer") else {"fc": "fc", "norm": "layer3"}.get(first, "stem")


ALL = {"stem", "layer1", "layer2", "layer3", "fc"}
LATE = {"layer2", "layer3", "fc"}
NO_NESTEROV = "optimizer.nesterov=false"


@pytest.mark.parametrize(
    ("settings", "learns"),
    [
        (("finetune.freeze=all",), {"fc"}),
        (("finetune.head_epochs=9",), {"fc"}),  # longer than the run
        (("finetune.freeze=0", "optimizer.kind=adamw", NO_NESTEROV), ALL - {"stem"}),
        (("finetune.freeze=0", "finetune.head_epochs=1", "finetune.thaw=1"), LATE),
        (("finetune.freeze=1", "ema=0.9", "precise_batch_norm=20"), LATE),
        (("finetune.freeze=1", "soup=2"), LATE),
        (("finetune.freeze=2", "optimizer.kind=lamb", NO_NESTEROV), LATE - {"layer2"}),
        pytest.param(
            ("finetune.freeze=2", "optimizer.kind=muon", NO_NESTEROV),
            LATE - {"layer2"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_frozen_stays_to_the_bit(tmp_path, settings, learns):
    """Weights, statistics and their counters, beside weight decay, momentum and averages."""
    before, after = fine_tuned(tmp_path / "run", "optimizer.lr=0.01", *settings)
    found = {part_of(key) for key in changed(before, after)}
    assert found == learns
    moved = changed(before, after)
    for key in before:  # and whatever is not frozen has moved, every tensor of it
        if part_of(key) in learns and "num_batches" not in key:
            assert key in moved, key


@pytest.mark.parametrize("spec", ["resnet8", "resnet50_v2"])
def test_batch_norm_that_keeps(tmp_path, spec):
    model = (
        NARROW
        if spec == "resnet8"
        else replace(get_spec(spec), widths=(4, 8, 8, 8), depths=(1, 1, 1, 1), stem_width=4)
    )
    settings = ("schedule.iterations=3", "data.image_size=12")
    for kind in ("keep_statistics", "keep"):
        before, after = fine_tuned(
            tmp_path / kind, f"finetune.batch_norm={kind}", *settings, model=model
        )
        kept = set(before) - changed(before, after)
        statistics = {key for key in before if "running" in key or "num_batches" in key}
        norms = {key.rpartition(".")[0] for key in statistics}
        affine = {f"{norm}.{leaf}" for norm in norms for leaf in ("weight", "bias")}
        assert statistics <= kept
        assert kept == (statistics | affine if kind == "keep" else statistics)


def test_no_part_of_a_frozen_network_is_random(tmp_path):
    """The maps of a frozen part are those of evaluation, whatever it drops in training."""
    model = replace(NARROW, drop_path=0.5, dropout=0.5, num_classes=2)
    torch.manual_seed(0)
    network = create_model(model)
    thawing = Thawing(FinetuneRecipe(freeze=2), model)
    thawing.freeze(network, 3)
    thawing.train(network, 3)
    assert network.fc.training
    assert network.dropout.training
    assert network.layer3.training
    x = torch.randn(4, 3, 12, 12)

    def middle() -> torch.Tensor:
        y = network.activation(network.bn1(network.conv1(x)))
        return network.layer2(network.layer1(network.maxpool(y)))

    first = middle()
    assert not first.requires_grad
    assert torch.equal(first, middle())
    network.eval()
    assert torch.equal(first, middle())


def test_stages_thaw_one_after_the_other(tmp_path):
    """After each epoch of a run, what has changed since the epoch before."""
    settings = ("finetune.head_epochs=1", "finetune.thaw=1")
    expected = [{"fc"}]
    for part in ("layer3", "layer2", "layer1", "stem"):
        expected.append(expected[-1] | {part})
    expected.append(ALL)
    before = weights()
    for epoch, learns in enumerate(expected, start=1):
        # Constant, so that runs of any length are alike until they end.
        length = f"schedule.iterations={5 * epoch}"
        _, after = fine_tuned(tmp_path / f"{epoch}", *settings, *CONSTANT, length)
        assert {part_of(key) for key in changed(before, after)} == learns, epoch
        before = after


def test_the_schedule_begins_when_the_classifier_is_no_longer_alone(tmp_path):
    settings = (
        "finetune.head_epochs=1",
        "schedule.epochs=4",
        "schedule.warmup=0.4",
        "schedule.warmup_steps=0",
        "optimizer.lr=0.1",
    )
    fine_tuned(tmp_path / "run", *settings)
    fine_tuned(tmp_path / "short", "schedule.epochs=3", *settings[2:])
    rates, short = (
        [
            json.loads(line)["lr"]
            for line in RunFolder(tmp_path / name).metrics.read_text().splitlines()
        ]
        for name in ("run", "short")
    )
    assert rates == [0.1, *short]


def test_a_step_in_float64_is_that_of_a_plain_loop_with_parameter_groups():
    spec = replace(get_spec("resnet20"), widths=(4, 8, 8), stem_width=4)
    recipe = load_recipe(
        "default",
        [
            "batch_size=6",
            "optimizer.lr=0.1",
            "optimizer.clip=null",
            "optimizer.nesterov=false",  # which adds to gradients in place
            "finetune.layer_decay=0.8",
            "finetune.freeze=1",
        ],
    )
    torch.manual_seed(0)
    ours = create_model(spec).double()
    plain = copy.deepcopy(ours)
    thawing = Thawing(recipe.finetune, spec)
    optimizer = build_optimizer(ours, recipe.optimizer, thawing.place)
    thawing.freeze(ours, thawing.frozen(0))
    thawing.train(ours, thawing.frozen(0))
    # Three blocks a stage: the last is 0.8 of the classifier, layer2.0 is five blocks before it.
    decays = {"fc": 0} | {f"layer{s}.{b}": 3 * (3 - s) + 3 - b for s in (2, 3) for b in range(3)}
    groups = []
    for prefix, power in decays.items():
        for decay in (True, False):
            own = [
                p
                for name, p in plain.named_parameters()
                if name.startswith(f"{prefix}.") and (p.ndim > 1) == decay
            ]
            groups.append(
                {"params": own, "lr": 0.1 * 0.8**power, "weight_decay": 5e-4 if decay else 0.0}
            )
    reference = torch.optim.SGD(groups, momentum=0.9)
    plain.train()
    for frozen in (plain.conv1, plain.bn1, plain.layer1):
        frozen.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = torch.randn(6, 3, 16, 16, generator=generator, dtype=torch.float64)
        y = torch.randint(10, (6,), generator=generator)
        training_step(ours, optimizer, x, y, y, lr=0.1, recipe=recipe)
        reference.zero_grad()
        F.cross_entropy(plain(x), y).backward()
        gradients = {name: p.grad for name, p in plain.named_parameters()}
        for name, p in ours.named_parameters():
            assert (p.grad is None) == (gradients[name] is None), name
            if p.grad is not None:
                torch.testing.assert_close(p.grad, gradients[name], rtol=1e-10, atol=1e-12)
        reference.step()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-10, atol=1e-12)


def test_rates_by_stage():
    thawing = Thawing(FinetuneRecipe(rates=(0.1, 0.2, 0.3, 0.4, 2.0)), NARROW)
    model = create_model(NARROW)
    factors = {part_of(name): thawing.place(name)[1] for name, _ in model.named_parameters()}
    assert factors == {"stem": 0.1, "layer1": 0.2, "layer2": 0.3, "layer3": 0.4, "fc": 2.0}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("finetune.freeze=4", "the network has 3 stages"),
        ("finetune.rates=[1,1]", "it takes 5: of the stem, 3 stages and the classifier"),
    ],
)
def test_what_the_network_does_not_have(tmp_path, setting, words):
    with pytest.raises(UsageError, match=words):
        fine_tuned(tmp_path / "run", setting)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["finetune.layer_decay=0.5", "finetune.rates=[1,1,1,1,1]"], "exclude each other"),
        (["soup=2", "selection=best"], "soup and selection best exclude each other"),
        (["soup=2", "schedule.patience=2"], "soup and schedule.patience exclude each other"),
        (["precise_batch_norm=9", "finetune.batch_norm=keep"], "what finetune.batch_norm keeps"),
        (["finetune.freeze=-1"], "finetune.freeze"),
    ],
)
def test_what_contradicts_itself(settings, words):
    with pytest.raises(UsageError, match=words):
        load_recipe("default", settings)


THAWING = (
    (
        "optimizer.nesterov=true",
        "finetune.freeze=0",
        "finetune.head_epochs=0.4",
        "finetune.thaw=0.4",
        "finetune.layer_decay=0.8",
        "schedule.warmup_until_error=null",
        "schedule.warmup_rate=null",
    ),
    0,
)  # all but the stem learn from step 6 on


@pytest.mark.parametrize(
    "step", [1, 3, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 2, 4, 6, 7, 8, 9))]
)
def test_killed_while_it_thaws(tmp_path, step):
    out = tmp_path / "run"
    forked(sitting, out, THAWING, steps_of(THAWING)[step], kill)
    goes_on(out, THAWING)


def test_two_processes_are_one_while_it_thaws(made):  # noqa: F811
    settings = (
        "schedule.iterations=5",
        "optimizer.accumulate=1",
        "finetune.freeze=0",
        "finetune.head_epochs=0.2",
        "finetune.thaw=0.2",
        "schedule.warmup_until_error=null",
        "schedule.warmup_rate=null",
    )
    close(made(2, *settings), made(1, *settings))


def test_recorded_steps_thaw_too(tmp_path):
    """Their sums are of another order (`GraphStep`)."""
    settings = ("finetune.head_epochs=1", "finetune.thaw=0.4", "optimizer.clip=null")
    _, told = fine_tuned(tmp_path / "told", *settings)
    _, after = fine_tuned(tmp_path / "again", *settings, cuda_graph=True)
    torch.testing.assert_close(after, told, rtol=1e-4, atol=1e-5)


PATIENT = ("schedule.patience=2", "schedule.epochs=40", "optimizer.lr=1e-9")  # nothing gets better


def test_a_run_ends_when_its_patience_does(tmp_path):
    out = tmp_path / "run"
    fine_tuned(out, *PATIENT, "optimizer.lr=0.05")
    lines = metrics(out)
    results = [(line["validation_accuracy"], -line["validation_loss"]) for line in lines]
    best = max(range(len(results)), key=lambda i: (results[i], -i))
    assert len(lines) == best + 3 < 40
    record = RunFolder(out).read_record()
    assert record.finished
    assert (record.progress.step, record.progress.steps) == (5 * len(lines), 200)
    assert record.results.validation.accuracy == lines[-1]["validation_accuracy"]
    found = audit(out)
    assert found.ok, found.differences
    write_report([out])
    assert f"{len(lines)} of 40 epochs, ended early" in RunFolder(out).report.read_text()


@pytest.mark.parametrize("late", ["finetune.head_epochs=3", "finetune.thaw=1"])
def test_nothing_is_waited_for_before_all_learns(tmp_path, late):
    """Else a run would end before most of the network has learnt at all."""
    out = tmp_path / "run"
    fine_tuned(out, *PATIENT, late)
    from_weights = (0.0, -1e9)  # what the first epoch is better than
    results = [(line["validation_accuracy"], -line["validation_loss"]) for line in metrics(out)]
    bests = [from_weights]
    waited = 0
    for number, result in enumerate(results, 1):
        waited = 0 if result > max(bests) else waited + (number > 3)
        bests.append(result)
        assert (waited == 2) == (number == len(results))
    assert len(results) >= 5
    assert audit(out).ok


@pytest.mark.parametrize("end", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_killed_while_its_patience_lasts(tmp_path, end):
    kind = ((*PATIENT, "optimizer.nesterov=true"), 0)
    steps = steps_of(kind)
    assert len(steps) < 200
    out = tmp_path / "run"
    forked(sitting, out, kind, steps[-1 if end else 2], kill)
    goes_on(out, kind)


def test_a_soup_is_the_mean_of_the_last_epochs(tmp_path):
    """Runs that end an epoch earlier say what the weights then were: the rate is constant."""
    ends = [
        fine_tuned(tmp_path / f"{epochs}", *CONSTANT, f"schedule.epochs={epochs}")[1]
        for epochs in (2, 3, 4)
    ]
    _, soup = fine_tuned(tmp_path / "soup", *CONSTANT, "schedule.epochs=4", "soup=3")
    for key, value in soup.items():
        if value.is_floating_point():
            mean = torch.stack([end[key].double() for end in ends]).mean(0)
            torch.testing.assert_close(value.double(), mean, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(value, ends[-1][key])


def test_a_soup_is_stirred_on_after_a_stop(tmp_path):
    kind = (
        ("soup=1", "selection=last", "ema=0", "optimizer.nesterov=true", "schedule.epochs=3"),
        0,
    )
    out = tmp_path / "run"
    forked(sitting, out, kind, steps_of(kind)[12], kill)
    goes_on(out, kind)
