"""The commands and the reader of docs/packs.md."""

import re
import shlex
from pathlib import Path

import pytest

from resnets.data.scan import scan

pytestmark = pytest.mark.pages

PAGE = (Path(__file__).parents[1] / "docs/packs.md").read_text("utf-8")


def blocks(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return text


def test_the_commands_and_the_reader(photos, tmp_path, resnets, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in blocks("sh").splitlines():
        code, _, said = resnets(*shlex.split(line, comments=True)[1:])
        assert code == 0, said
    names: dict = {}
    exec(blocks("python"), names)  # the page is ours
    listing = scan(photos)
    contents = [(photos / name).read_bytes() for name in listing.names]
    splits = [listing.splits[i] for i in listing.parts]
    classes = [listing.classes[i] for i in listing.labels]
    expected = [*zip(splits, classes, listing.names, contents, strict=True)]
    assert [*names["read_pack"]("photos.pack")] == expected
    assert [name for _, _, name, _ in names["read_pack"]("fast.pack")] == [
        f"{name}.ppm" for name in listing.names
    ]
    again = scan(tmp_path / "again")
    assert [(tmp_path / "again" / name).read_bytes() for name in again.names] == contents
    several = [*(tmp_path / "packs").iterdir()]
    assert [one for path in several for one in names["read_pack"](path)] == expected
