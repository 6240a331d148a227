"""Plain data from strangers: within limits they are read, beyond them refused with their place."""

import os

import pytest

from resnets.errors import CheckpointError, UsageError
from resnets.readers import strict_yaml
from resnets.readers.documents import DEEPEST, lines_of, loads, read_json
from resnets.readers.fields import Count, check

DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"a":' * 1000 + "1" + "}" * 1000,
        "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        "9" * 5000,
        "-" + "9" * 20,
        "1e999",
        "NaN",
        "[Infinity]",
        "",
        "{",
        '"\\',
    ],
)
def test_json_beyond_the_limits(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"run\.json: damaged: ") as caught:
        read_json(path)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < len(str(path)) + 200


def test_json_within_the_limits():
    text = "[" * DEEPEST + "]" * DEEPEST
    assert str(loads(text, "here")) == text
    assert loads("[NaN, 1e999, 1.5, -3]", "here", lenient=True) == [None, None, 1.5, -3]


def test_lines_say_where_they_stand(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"1\n\n2\n")
    assert list(lines_of(path)) == [(f"{path}, line 1", "1"), (f"{path}, line 3", "2")]
    path.write_bytes(b"1\n\xff\n")
    with pytest.raises(CheckpointError, match=r"lines, line 2: damaged: not UTF-8 text"):
        list(lines_of(path))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"not a file|directory"):
        read_json(path)


@pytest.mark.parametrize("value", [-1, 1.5, True, "1", None, 10**17])
def test_counts_are_counts(value):
    with pytest.raises(CheckpointError, match="here: damaged: "):
        check(Count, value, "here")
    assert check(Count, 3, "here") == 3


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        "a: &a [*a]",
        "\n".join(f"{'  ' * depth}a:" for depth in range(200)),
        "seed: " + "9" * 5000,
        "? [a, b]\n: 1",
        "a: !!timestamp 2024-99-99",
        "x: " + "a" * 300_000,
        "a: \x00",
    ],
)
def test_yaml_beyond_the_limits(tmp_path, text):
    with pytest.raises(UsageError) as caught:
        strict_yaml.load(text, "recipe.yaml")
    assert caught.value.message.startswith("recipe.yaml")
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"recipe\.yaml: damaged: "):
        strict_yaml.read(tmp_path / "recipe.yaml")
