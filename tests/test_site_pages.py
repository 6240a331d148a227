"""The messages on the pages of errors are what is said when each mistake is made."""

import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.pages


def test_every_message_is_as_it_is_said(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    from website.errors import RECORDED, record, without_numbers

    kept = json.loads(RECORDED.read_text(encoding="utf-8"))
    said = record()
    assert {case: without_numbers(lines) for case, lines in said.items()} == {
        case: without_numbers(lines) for case, lines in kept.items()
    }
