"""Files are written whole or not at all."""

import errno
import json
import os

import pytest

from resnets.errors import ResourceError
from resnets.files import write_bytes, write_json, write_text


def test_write_and_replace(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"é": 1})
    write_json(path, [2])
    assert json.loads(path.read_text()) == [2]
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_failure_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_text(path, "before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="a: cannot be written: No space left on device"):
        write_text(path, "after")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_interruption_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_text(path, "before")

    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "after")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_file_where_a_folder_is_due(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_text(tmp_path / "a" / "b", "text")


def test_devices_folders_and_links(tmp_path):
    """A device or a folder is refused; a link is written through."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("folder", "is a folder"), ("pipe", "is no ordinary file")):
        with pytest.raises(ResourceError, match=kind):
            write_bytes(tmp_path / name, b"new")
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
