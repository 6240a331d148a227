"""Files are written whole or not at all."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections import namedtuple

import pytest

from conftest import largest_file
from resnets.errors import ResourceError
from resnets.files import drafts, followed, write_bytes, write_json, write_text, writing


def test_write_and_replace(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"é": 1})
    write_json(path, [2])
    assert json.loads(path.read_text()) == [2]
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_failure_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a"
    write_text(path, "before")
    with (
        largest_file(4),
        pytest.raises(ResourceError, match="a: cannot be written: File too large"),
    ):
        write_text(path, "after")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_interruption_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a"
    write_text(path, "before")

    def interrupted():
        with writing(path) as file:
            file.write(b"after")
            file.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_file_where_a_folder_is_due(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_text(tmp_path / "a" / "b", "text")


def test_devices_and_folders_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("folder", "is a folder"), ("pipe", "is no ordinary file")):
        with pytest.raises(ResourceError, match=kind):
            write_bytes(tmp_path / name, b"new")


@pytest.mark.parametrize("target", ["target", "nothing", "folder", "pipe", "link"])
def test_links_are_replaced_unless_a_user_names_them(tmp_path, target):
    """Whatever they lead to; in the folder of a run the files are not the user's own."""
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    write_bytes(link, b"new")
    assert not link.is_symlink()
    assert link.read_bytes() == b"new"
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "nothing").exists()

    link.unlink()
    link.symlink_to(tmp_path / "target")
    write_bytes(followed(link), b"new")
    assert link.is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    (tmp_path / "run.json").symlink_to("nothing")
    write_bytes(followed(link), b"newer")
    assert not link.is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


LEFT = """
import os, signal, sys
from pathlib import Path
from resnets.files import writing
with writing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_processes_leave_is_removed_and_nothing_else(tmp_path):
    path, long = tmp_path / "a", tmp_path / ("é" * 120)
    for killed in (path, long):
        subprocess.run([sys.executable, "-c", LEFT, killed])
        assert len(drafts(killed)) == 1
    foreign = {".a.tmp.txt", ".a.1.tmp", ".b.00000000.tmp", ".b.tmp"}
    for name in foreign | {".a.tmp"}:  # as earlier versions called it
        (tmp_path / name).write_text("")
    (tmp_path / ".a.00000000.tmp").symlink_to(tmp_path / ".b.tmp")
    with writing(path) as first, writing(path) as second:  # neither has been killed
        first.write(b"first")
        second.write(b"second")
    write_text(long, "text")
    assert path.read_bytes() == b"first"  # which was the last to be whole
    assert {p.name for p in tmp_path.iterdir()} == foreign | {"a", long.name}


class Flaky:
    """Stands for os.fsync: does something to the file instead, or after it."""

    def __init__(self, monkeypatch, spoil):
        self.fsync, self.spoil = os.fsync, spoil
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, descriptor):
        self.fsync(descriptor)
        self.spoil(descriptor)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda descriptor: os.pwrite(descriptor, b"B", 3),
        lambda descriptor: os.ftruncate(descriptor, 5),
        lambda descriptor: os.pwrite(descriptor, b"more", 6),
    ],
    ids=["flipped", "shorter", "longer"],
)
def test_what_the_disk_returns_is_compared(tmp_path, monkeypatch, spoil):
    path = tmp_path / "a"
    write_text(path, "before")
    Flaky(monkeypatch, spoil)
    with pytest.raises(ResourceError, match="a: is not what was written: the disk is failing"):
        write_text(path, "after!")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_writers_that_go_back(tmp_path, monkeypatch):
    """Zip archives fill in their headers later; of these the length is compared."""
    path = tmp_path / "a.zip"

    def write():
        with writing(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name in ("one", "two"):
                with archive.open(name, "w") as entry:
                    entry.write(100 * name.encode())

    write()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("two") == 100 * b"two"
    Flaky(monkeypatch, lambda descriptor: os.ftruncate(descriptor, 300))
    with pytest.raises(ResourceError, match="the disk is failing"):
        write()


def test_many_small_pieces(tmp_path):
    pieces = [bytes([n % 256]) * (n % 50) for n in range(20_000)]
    with writing(tmp_path / "a") as file:
        file.writelines(pieces[:10_000])
        for piece in pieces[10_000:]:
            file.write(memoryview(piece))
        assert file.tell() == sum(map(len, pieces))
    assert (tmp_path / "a").read_bytes() == b"".join(pieces)


def test_memory_stays_bounded(tmp_path, peak_memory):
    piece = bytes(1 << 20)
    write_bytes(tmp_path / "a", piece)
    with peak_memory(below=16 << 20), writing(tmp_path / "a") as file:
        for _ in range(64):
            file.write(piece)


def test_the_name_is_synced_with_its_folder(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a"
    seen = []

    def look(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        seen.append((kind, path.exists(), bool(drafts(path))))

    Flaky(monkeypatch, look)
    write_text(path, "text")
    assert seen == [("file", False, True), ("folder", True, False)]


def test_a_folder_that_cannot_be_synced(tmp_path, monkeypatch):
    def refuse(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    Flaky(monkeypatch, refuse)
    write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "No space left on device: 1.1 MB needed, 0.2 MB free"),
        (errno.EDQUOT, "Disk quota exceeded: 1.1 MB needed"),
    ],
)
def test_a_full_disk_says_how_much_is_missing(tmp_path, monkeypatch, number, told):
    """Of a disk with 200 kB free, 150 kB are taken by the part that fits."""

    def fill(file):
        file.write(bytes(150_000))
        file.flush()
        raise OSError(number, os.strerror(number))

    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 50_000, 50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ResourceError) as caught, writing(tmp_path / "a", size=1_100_000) as file:
        fill(file)
    assert caught.value.message == f"{tmp_path / 'a'}: cannot be written: {told}"
    assert caught.value.hint == "free some space; the earlier file, if any, is untouched"
    with pytest.raises(ResourceError) as caught, writing(tmp_path / "a") as file:
        fill(file)
    told = told.replace("1.1 MB needed", "after 0.1 MB").replace("0.2 MB", "50,000 bytes")
    assert caught.value.message.endswith(told)


LIMITED = """
import resource, signal, sys
from pathlib import Path
from resnets.errors import ResourceError
from resnets.files import write_bytes, writing

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
path = Path(sys.argv[1])
write_bytes(path, b"before")
try:
    write_bytes(path, bytes(1_100_000))
except ResourceError as error:
    print(error.message, error.hint, sep="\\n")
try:
    with writing(path) as file:
        for _ in range(1000):
            file.write(bytes(1000))
except ResourceError as error:
    print(error.message)
"""


def test_a_real_limit_on_the_size_of_files(tmp_path):
    path = tmp_path / "a"
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=True
    )
    whole, hint, streamed = result.stdout.splitlines()
    assert whole == f"{path}: cannot be written: File too large: 1.1 MB needed, 0.2 MB allowed"
    assert hint.startswith("raise the limit on a file's size (ulimit -f); the earlier file")
    assert streamed.endswith("File too large: after 0.2 MB, 0.2 MB allowed")
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
