"""Whatever happens and when: a model under its name is whole, with its own certificate."""

import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from conftest import killed_at, largest_file
from resnets.errors import ResourceError, UsageError
from resnets.exporting.keeping import drafted
from resnets.exporting.plan import certificate_of, files_of


def write(out: Path, generation: str) -> None:
    """Keep an export whose files all hold the name of their generation."""
    with drafted(out) as draft:
        for path in files_of(draft):
            path.write_text(generation)


def write_with_room(room: int, out: Path, generation: str) -> None:
    """Keep an export of which only the first ``room`` files find a place."""
    with ExitStack() as full, drafted(out) as draft:
        for number, path in enumerate(files_of(draft)):
            path.write_text(generation if number < room else 2 * generation)
        full.enter_context(largest_file(len(generation)))


def generation(out: Path) -> str:
    """What all files of the export hold; nothing where there is no model under its name."""
    if not out.exists():
        return ""
    (found,) = {path.read_text() for path in files_of(out)}
    return found


def fail(out: Path, error: BaseException) -> None:
    """Begin an export that the next step finds wrong."""
    with drafted(out) as draft:
        draft.write_text("half")
        raise error


@pytest.mark.parametrize("name", ["net.onnx", "net.xml"])
@pytest.mark.parametrize("replaced", [False, True])
def test_killed_at_every_moment(tmp_path, name, replaced):
    """Once there is a model no kill loses it: what is not under its name yet is with the next."""
    moment, killed, ends = 0, True, set()
    while killed:
        out = tmp_path / str(moment) / name
        out.parent.mkdir()
        if replaced:
            write(out, "old")
        killed = killed_at(moment, out.parent, partial(write, out, "new"))
        assert generation(out) in ("", "old", "new"), moment
        with pytest.raises(UsageError):
            fail(out, UsageError("no"))
        ends.add(generation(out))
        named = set(files_of(out)) if out.exists() else set()
        assert set(out.parent.iterdir()) == named  # what the killed left is gone
        moment += 1
    assert moment > 8
    assert generation(out) == "new"
    assert ends == {"old" if replaced else "", "new"}


@pytest.mark.parametrize(
    ("name", "room"), [("net.onnx", 0), ("net.onnx", 1), ("net.xml", 1), ("net.xml", 2)]
)
def test_a_full_disk_leaves_what_was_there(tmp_path, name, room):
    """There is room for some of the files, and not for the next."""
    out = tmp_path / name
    write(out, "old")
    lacking = re.escape(f".{files_of(out)[room].name}.whole: cannot be written: File too large")
    with pytest.raises(ResourceError, match=lacking):
        write_with_room(room, out, "new")
    assert generation(out) == "old"
    assert set(tmp_path.iterdir()) == set(files_of(out))


def test_links_are_written_through(tmp_path):
    out, folder = tmp_path / "net.xml", tmp_path / "files"
    folder.mkdir()
    for path in files_of(out):
        (folder / path.name).write_text("old")
        path.symlink_to(Path("files", path.name))
    write(out, "new")
    assert all(path.is_symlink() for path in files_of(out))
    assert generation(folder / out.name) == "new"
    assert len(list(folder.iterdir())) == 3


def test_one_export_at_a_time(tmp_path):
    out = tmp_path / "net.onnx"
    with drafted(out) as draft:
        with pytest.raises(ResourceError, match=r"net\.onnx: another process is writing it"):
            write(out, "second")
        write(tmp_path / "other.onnx", "other")
        for path in files_of(draft):
            path.write_text("first")
    assert generation(out) == "first"
    write(out, "third")
    assert generation(out) == "third"
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("error", [UsageError("no"), KeyboardInterrupt()])
def test_an_error_keeps_nothing(tmp_path, error):
    out = tmp_path / "net.onnx"
    with pytest.raises(type(error)):
        fail(out, error)
    assert not list(tmp_path.iterdir())


def test_a_certificate_is_called_after_its_file():
    names = {certificate_of(Path(name)).name for name in ("net.onnx", "net.xml", "net.pt2")}
    assert names == {f"net.{end}.certificate.json" for end in ("onnx", "xml", "pt2")}
    assert [path.name for path in files_of(Path("a/net.xml"))] == [
        "net.xml.certificate.json",
        "net.bin",
        "net.xml",
    ]
