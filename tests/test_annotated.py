"""The annotated source of docs/: all of the code, a note on each part, themed drawings."""

import re
import xml.etree.ElementTree as ET
from dataclasses import fields
from pathlib import Path

import pytest

from resnets.spec import Spec

ROOT = Path(__file__).parents[1]


@pytest.fixture
def annotated(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import make_annotated

    return make_annotated


def test_each_part_of_the_blocks_has_a_note_and_each_note_its_part(annotated):
    sections = annotated.sections(annotated.BLOCKS.read_text("utf-8"))
    assert {section.key for section in sections} == set(annotated.NOTES)


def test_the_page_has_all_of_the_code_in_its_order(annotated):
    page = annotated.blocks_page()
    shown = "\n".join(re.findall(r"```python\n(.*?)\n```", page, re.S))
    source = annotated.BLOCKS.read_text("utf-8")
    code = re.sub(r'^ *""".*?"""\n|^ *#[^\n]*\n', "", source, flags=re.S | re.M)
    words = [line.strip() for line in code.splitlines() if line.strip()]
    assert [line.strip() for line in shown.splitlines() if line.strip()] == words
    for docstring in re.findall(r'"""(.*?)"""', source, re.S):
        assert re.sub(r"\s+", " ", docstring).replace("``", "`").strip() in page


def test_each_field_of_spec_has_an_entry_and_each_entry_its_field(annotated):
    assert list(annotated.FIELDS) == [field.name for field in fields(Spec)]


@pytest.mark.pages
def test_drawings_are_sound_and_take_their_colours_from_the_page(annotated):
    css = (ROOT / "docs/site.css").read_text("utf-8")
    page = annotated.spec_page()
    drawings = re.findall(r"<svg .*?</svg>", page)
    assert len(drawings) > 40
    for drawing in drawings:
        ET.fromstring(drawing)
        assert not re.search(r'(fill|stroke)="#', drawing)
        for name in set(re.findall(r"var\((--[\w-]+)\)", drawing)):
            assert css.count(f"{name}:") == 2, name  # in the light and in the dark
