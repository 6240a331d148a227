"""The site as it is built from: nothing left out, nothing that leads nowhere."""

import re
import sys
from pathlib import Path

import pytest

import resnets
from resnets.training.recipe import list_recipes, setting_fields

DOCS = Path(__file__).parents[1] / "docs"
LINK = re.compile(r"\]\((?!#|[a-z]+:)([^)\s#]+)")


@pytest.fixture(scope="module", autouse=True)
def modules():
    sys.path.insert(0, str(DOCS))
    yield
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    from make_site import write_source

    folder = tmp_path_factory.mktemp("site") / "source"
    write_source(folder)
    return folder


def test_every_page_is_in_the_navigation(source):
    from make_site import configuration
    from website.checking import unlisted

    assert [*unlisted(configuration(source)["nav"], source)] == []
    (source / "stray.md").write_text("# Stray")
    found = [*unlisted([{"Home": "index.md"}, {"Gone": ["gone.md"]}], source)]
    (source / "stray.md").unlink()
    assert "stray.md: is not in the navigation of mkdocs.yml" in found
    assert "mkdocs.yml: gone.md does not exist" in found


def test_every_link_leads_to_a_file(source):
    from website.sources import by_code

    lost = []
    for page in source.rglob("*.md"):
        for code, line in by_code(page.read_text(encoding="utf-8")):
            links = [] if code else LINK.findall(line)
            lost += [f"{page.name}: {link}" for link in links if not (page.parent / link).exists()]
    assert lost == []


def test_the_reference_has_every_command_name_recipe_and_setting(source):
    from website.commands import commands
    from website.errors import KINDS

    reference = source / "reference"
    assert len(commands()) > 25
    for words, command in commands().items():
        page = (reference / f"commands/{words.split()[0]}.md").read_text(encoding="utf-8")
        assert f"# resnets {words}" in page
        options = [each for each in command.params if not each.hidden and each.opts[0][0] == "-"]
        assert [each.opts[0] for each in options if f"`{each.opts[0]}" not in page] == []
    python = "".join(path.read_text(encoding="utf-8") for path in reference.glob("python/*.md"))
    names = {*resnets.__all__} - {"__version__"}
    assert [name for name in names if f"{{ #{name} }}" not in python] == []
    settings = (reference / "settings.md").read_text(encoding="utf-8")
    assert [key for key in setting_fields() if f"`{key}`" not in settings] == []
    assert all((reference / f"recipes/{name}.md").is_file() for name in list_recipes())
    assert all((reference / f"errors/{kind.name}.md").is_file() for kind in KINDS)
    models = (source / "models.md").read_text(encoding="utf-8")
    assert [name for name in resnets.list_models() if f"<code>{name}</code>" not in models] == []


def test_what_help_says_of_an_option_is_whole_in_its_row(source):
    rows = []
    for page in (source / "reference/commands").glob("*.md"):
        rows += [line for line in page.read_text("utf-8").splitlines() if line.startswith("| `-")]
    assert len(rows) > 200
    pairs = ("()", "[]")
    torn = [row for row in rows for a, b in pairs if row.count(a) != row.count(b)]
    assert torn + [row for row in rows if row.count("`") % 2] == []
    assert any("Default: default; auto with `--weights`." in row for row in rows)


def test_a_page_is_refused_that_links_to_what_is_not_there(tmp_path):
    from website.sources import copier, linked

    text = "[one](../README.md) and `[code](x)`\n\n```\n[in code](nowhere.md)\n```\n"
    moved = linked(text, "docs/start.md", copier(tmp_path, "docs/start.md"))
    assert moved == text.replace("../README.md", "index.md")
    with pytest.raises(SystemExit, match=r"docs/start\.md: links to docs/nowhere\.md"):
        linked("[it](nowhere.md)", "docs/start.md", copier(tmp_path, "docs/start.md"))
    linked("[run](../results/suspects.txt)", "docs/trust.md", copier(tmp_path, "docs/trust.md"))
    assert (tmp_path / "files/results/suspects.txt").is_file()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone.html">x</a>', "gone.html does not exist"),
        ('<a href="b.html#none">x</a>', "b.html#none: b.html has no #none"),
        ('<a href="#none">x</a>', "#none: a.html has no #none"),
        ('<img src="gone.png">', "gone.png does not exist"),
        ('<script src="https://cdn.example/x.js"></script>', "outside of the site"),
        ('<link rel="stylesheet" href="https://fonts.example/x.css">', "outside of the site"),
        ('<a href="../secret.html">x</a>', "../secret.html does not exist"),
        ('<a href="https://arxiv.org">x</a><a href="b.html#here">x</a><a href="#">x</a>', None),
    ],
)
def test_faults_of_a_built_page(tmp_path, body, fault):
    from website.checking import faults

    (tmp_path / "secret.html").write_text("")
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.html").write_text(body)
    (site / "b.html").write_text('<h2 id="here">Here</h2>')
    found = [*faults(site)]
    assert len(found) == (fault is not None)
    if fault:
        assert found[0].startswith("a.html: ")
        assert fault in found[0]
