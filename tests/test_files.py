"""Files are written whole or not at all."""

import errno
import json
import stat

import pytest

from resnets.errors import ResourceError
from resnets.files import write_json, write_text, writing


def test_write_and_replace(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"é": 1})
    write_json(path, [2])
    assert json.loads(path.read_text()) == [2]
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_failure_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a"
    write_text(path, "before")

    def fail():
        with writing(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match="No space left on device"):
        fail()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_program_error_passes_unchanged(tmp_path):
    with pytest.raises(KeyError), writing(tmp_path / "a"):
        raise KeyError("bug")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_due(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_text(tmp_path / "a" / "b", "text")


def test_permissions_are_the_users_own(tmp_path):
    write_text(tmp_path / "ordinary", "")
    with writing(tmp_path / "a") as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "ordinary")}
    assert len(modes) == 1
