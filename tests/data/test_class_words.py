"""Words for names of classes: what files say, and which name of a model they find."""

import json

import pytest

from resnets import evaluate
from resnets.data.class_words import ClassWords, read_class_words
from resnets.errors import DataError
from test_assessment import NAMES, network, trees

SYNSETS = {f"n{i:02}": name for i, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("words.txt", "n01 tench, Tinca tinca\nn02\tgoldfish\n\n"),
        ("words.csv", 'synset,words\nn01,"tench, Tinca tinca"\nn02,goldfish\n'),
        ("words.csv", 'n01,"tench, Tinca tinca"\nn02,goldfish,more\n'),
        ("words.json", '{"n01": "tench, Tinca tinca", "n02": "goldfish"}'),
        ("words.json", '{"1": ["n02", "goldfish"], "0": ["n01", "tench, Tinca tinca"]}'),
        ("words.json", '\ufeff{"n01": "tench, Tinca tinca", "n02": "goldfish"}'),
    ],
)
def test_files_of_words(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_class_words(tmp_path / name)
    assert list(found.words.items()) == [("n01", "tench, Tinca tinca"), ("n02", "goldfish")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("words.txt", "n01 tench\nn02\n", "line 2 is no name with its words"),
        ("words.txt", "n01 tench\nn01 trout\n", "has two words for n01"),
        ("words.txt", "", "names no class"),
        ("words.json", '{"n01": 3}', "has no words for 'n01'"),
        ("words.json", '{"n01"', "delimiter"),
        ("words.json", "[" * 100_000, "nested too deeply"),
        ("words.txt", b"\xff\xfe\x00", "decode"),
    ],
)
def test_files_that_are_none(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_class_words(tmp_path / name)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_class_words(tmp_path / "none.txt")
    assert "a CSV of two columns" in caught.value.hint


def test_two_classes_of_one_word_stay_two():
    words = ClassWords({"n1": "crane", "n2": "crane", "n3": "hen"})
    assert words.shown(("n1", "n2", "n3", "n4")) == ("crane (n1)", "crane (n2)", "hen", "n4")
    assert [words.seen_as(n, ("crane", "hen")) for n in ("n1", "n2", "n3")] == ["n1", "n2", "hen"]


@pytest.mark.parametrize("named", ["by words", "by synsets", "by none"])
@pytest.mark.parametrize("folders", ["words", "synsets"])
def test_folders_and_models_by_either_name(tmp_path, named, folders):
    """Some of the classes are enough: the file says which output is which."""
    (tmp_path / "words.json").write_text(json.dumps(SYNSETS))
    by_words = trees(tmp_path / "plain", dict.fromkeys(NAMES[2:5], 3))
    root = by_words
    if folders == "synsets":
        called = {word: synset for synset, word in SYNSETS.items()}
        root = tmp_path / "val-alone" / "val"
        for folder in by_words.iterdir():
            (root / called[folder.name]).parent.mkdir(parents=True, exist_ok=True)
            folder.rename(root / called[folder.name])
        root = root.parent
    names = {"by words": NAMES, "by synsets": tuple(SYNSETS), "by none": ()}[named]
    found = evaluate(network(names), root, class_names=tmp_path / "words.json")
    assert found.names == NAMES
    assert found.counts == [0, 0, 3, 3, 3, 0, 0]
    assert (found.strange, found.notes) == ((), ())
    if folders == "words":
        assert found.confusion == evaluate(network(), root).confusion
