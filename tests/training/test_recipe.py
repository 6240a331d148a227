"""Recipes: what is accepted, what is refused and how it is said."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.errors import UsageError
from resnets.readers import strict_yaml
from resnets.training.recipe import Recipe, list_recipes, load_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_loads_and_survives_its_own_yaml(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert load_recipe(path) == recipe
    assert load_recipe(recipe) == recipe


def test_he2015_cifar_is_the_papers():
    recipe = load_recipe("he2015_cifar")
    assert (recipe.optimizer.lr, recipe.optimizer.momentum) == (0.1, 0.9)
    assert (recipe.optimizer.weight_decay, recipe.batch_size) == (1e-4, 128)
    assert recipe.schedule.iterations == 64_000
    assert recipe.schedule.milestones == (0.5, 0.75)
    assert recipe.data.holdout == 5000
    assert recipe.data.normalize == "pixel_mean"
    assert not recipe.optimizer.nesterov


def test_settings():
    recipe = load_recipe("he2015_cifar", ["optimizer.lr=5e-2", "data.holdout=0.2", "seed=7"])
    assert recipe.optimizer.lr == 0.05
    assert recipe.data.holdout == 0.2
    assert recipe.seed == 7
    assert recipe.optimizer.momentum == 0.9


def test_epochs_and_iterations_replace_each_other():
    assert load_recipe("he2015_cifar", ["schedule.epochs=3"]).schedule.iterations is None
    assert load_recipe("default", ["schedule.iterations=9"]).schedule.epochs is None


def test_no_warmup_is_none_at_all():
    set_epochs = ["schedule.warmup_epochs=2", "schedule.warmup=0"]
    assert load_recipe("default", set_epochs).schedule.warmup_epochs == 0
    assert load_recipe("default").schedule.warmup_steps > 0
    assert load_recipe("default", ["schedule.warmup=0"]).schedule.warmup_steps == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.lr=-1", "optimizer.lr: Input should be greater than 0, not -1"),
        ("optimizer.lr=fast", "optimizer.lr: Input should be a valid number"),
        ("optimizer.lr='0.1'", "optimizer.lr: Input should be a valid number"),
        ("optimizer.lr=.nan", "optimizer.lr: Input should be a valid number"),
        ("batch_size=12.5", "batch_size: Input should be a valid integer"),
        ("batch_size=true", "batch_size: Input should be a valid integer"),
        ("data.holdout=1.5", "data.holdout: "),
        ("augment.mirror=yes", "augment.mirror: "),
        ("augment.policy=autoaugment", "augment.policy: "),
        ("augment.policy_magnitude=9", "policy_magnitude belongs to policy randaugment or timm"),
        ("augment.jitter=[0.4, 0.4, 0.4]", "augment.jitter: "),
        ("augment.jitter=[0.4, 0.4, 0.4, 0.6]", "augment.jitter: "),
        ("augment.erasing=1.5", "augment.erasing: "),
        ("augment.erasing_area=[0.3, 0.2]", "erasing_area must be two numbers above 0 that rise"),
        ("augment.erasing_aspect=[0, 1]", "augment.erasing_aspect: "),
        ("schedule.milestones=[0.75, 0.5]", "milestones must rise"),
        ("optimizer.rate=1", 'unknown key "optimizer.rate"'),
        ("seed=", "seed: Input should be a valid integer"),
        ("lr", 'setting "lr" is not of the form key=value'),
        ("batch_size.x=1", "batch_size is a value, not a section"),
        ("seed=[", "--set seed=["),
        ("seed=!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("seed=!!binary aGVsbG8=", "could not determine a constructor"),
        ("seed=!!timestamp 2001-01-01", "could not determine a constructor"),
        ("seed=&a [*a]", "aliases are not allowed"),
        ("schedule.end=0.1", "end and shape_from belong to shapes cosine and linear"),
        ("schedule={epochs: 1, warmup_rate: 0.1, warmup_from: 0.1}", "set one of them to null"),
        ("optimizer.trust_clip=true", "trust_clip belongs to lamb, not sgd"),
        ("target_threshold=0.2", "target_threshold belongs to loss binary_cross_entropy"),
        (
            "loss=bce",
            "loss: Input should be 'cross_entropy', 'binary_cross_entropy' or 'asymmetric'",
        ),
        ("seed=99999999999999999999", "seed: Input should be less than"),
        ("seed=" + 5000 * "9", "a number of 5,000 digits"),
        ("name=a/../../b", "name: String should match pattern"),
    ],
)
def test_bad_settings_end_in_one_line(setting, message):
    with pytest.raises(UsageError) as caught:
        load_recipe("he2015_cifar", [setting])
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_magnitudes_are_those_of_the_policy():
    policies = {"randaugment": (9, 30), "timm": (10, 10)}
    for policy, (usual, most) in policies.items():
        settings = [f"augment.policy={policy}"]
        assert load_recipe("default", settings).augment.magnitude == usual
        strongest = load_recipe("default", [*settings, f"augment.policy_magnitude={most}"])
        assert strongest.augment.magnitude == most
        with pytest.raises(UsageError, match=f"has magnitudes up to {most}, not {most + 1}"):
            load_recipe("default", [*settings, f"augment.policy_magnitude={most + 1}"])
    with pytest.raises(UsageError, match="has magnitudes up to 8, not 9"):
        load_recipe("default", ["augment.policy=randaugment", "augment.policy_bins=9"])


def test_unknown_names_say_what_is_near():
    with pytest.raises(UsageError) as caught:
        load_recipe("he2015_cifar", ["optimzer.lr=1"])
    assert caught.value.hint == "did you mean --set optimizer.lr=1?"
    with pytest.raises(UsageError, match="no recipe is called") as caught:
        load_recipe("he2015")
    assert "he2015_cifar" in caught.value.hint


def test_a_file_needs_one_length(tmp_path):
    for schedule in ("{}", "{epochs: 1, iterations: 2}"):
        path = tmp_path / "a.yaml"
        path.write_text(f"name: a\nschedule: {schedule}\n")
        with pytest.raises(UsageError, match="either epochs or iterations"):
            load_recipe(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("010", 10),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("~", None),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("'1'", "1"),
    ],
)
def test_yaml_without_traps(text, value):
    loaded = strict_yaml.load(f"key: {text}", "test")["key"]
    assert loaded == value
    assert type(loaded) is type(value)


def test_duplicate_keys_are_errors_with_their_place():
    with pytest.raises(UsageError, match=r'recipe.yaml, line 3, column 1: duplicate key "a"'):
        strict_yaml.load("a: 1\nb: 2\na: 3\n", "recipe.yaml")
    with pytest.raises(UsageError, match="duplicate key"):
        strict_yaml.load("{a: {b: 1, b: 2}}", "recipe.yaml")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc_.", min_size=1, max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
def test_yaml_round_trip(value):
    assert strict_yaml.load(strict_yaml.dump(value), "test") == value


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_a_usage_error(text):
    with suppress(UsageError):
        strict_yaml.load(text, "test")


def test_recipes_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("default").seed = 3
    assert isinstance(load_recipe("default"), Recipe)
