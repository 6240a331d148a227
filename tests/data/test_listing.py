"""Listings: of folders and of lists of names alike, small in memory, one look at each file."""

import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listings import read
from PIL import Image

from resnets.data.listing import Listing, Made, Names
from resnets.data.members import listing_of
from resnets.data.scan import scan
from resnets.errors import DataError


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3)).save(buffer, "PNG")
    return buffer.getvalue()


IMAGE = png()
FOLDERS = ["cat", "cat-2", "dog", "e\u0301", "\u00e9", "old", "b.jpg", ".git", os.fsdecode(b"\xff")]
TOP = [*FOLDERS, "train", "Training", "val", "test", "docs", "__MACOSX"]
FILES = ["a.jpg", "b.PNG", "x", "notes.txt", ".DS_Store", "jpg", "a.", "e\u0301.png", "\u00e9.png"]

files = st.dictionaries(st.sampled_from(FILES), st.sampled_from([IMAGE, b"", b"words"]), max_size=4)
inner = st.recursive(
    files,
    lambda below: st.builds(
        lambda here, folders: here | folders,
        files,
        st.dictionaries(st.sampled_from(FOLDERS), below, max_size=3),
    ),
    max_leaves=4,
)
full = inner.map(lambda tree: {"z.jpg": b"", **tree})
classes = st.dictionaries(st.sampled_from(FOLDERS), full | full | inner, min_size=2, max_size=4)
trees = st.one_of(
    classes,
    st.dictionaries(st.sampled_from(TOP), st.one_of(classes, inner), max_size=4),
    st.builds(lambda train: {"train": train, "val": train}, classes),
)


def grow(folder: Path, tree: dict) -> None:
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            grow(folder / name, content)
        else:
            (folder / name).write_bytes(content)


def flat(tree: dict, prefix: str = "") -> dict[str, bytes]:
    found = {}
    for name, content in tree.items():
        if isinstance(content, dict):
            found |= {f"{prefix}{name}/": b""} | flat(content, f"{prefix}{name}/")
        else:
            found[prefix + name] = content
    return found


def told(make) -> list:
    try:
        found = make()
    except DataError as error:
        return [error.message, error.hint]
    contents = [read(found, i) for i in range(len(found))]
    columns = [found.labels, found.parts, found.sizes, found.stamps]
    spelled = [found.names.spelled(i) for i in range(len(found))]
    about = [found.classes, found.splits, found.ignored, found.irregular]
    return [*about, list(found.names), *(c.tolist() for c in columns), spelled, contents]


@settings(max_examples=100, deadline=None)
@given(trees, st.randoms(use_true_random=False))
def test_names_alone_make_the_listing_that_a_folder_makes(tree, shuffler):
    """The same classes, images, order and contents, or the same message."""
    with TemporaryDirectory() as folder:
        root = Path(folder, "photos")
        grow(root, tree)
        contents = list(flat(tree).items())
        shuffler.shuffle(contents)
        names = [name for name, _ in contents]
        sizes = [len(content) for _, content in contents]
        looks = [(root / name).stat() for name in names]
        stamps = [max(look.st_mtime_ns, look.st_ctime_ns) for look in looks]

        def member(place: int) -> io.BytesIO:
            return io.BytesIO(contents[place][1])

        assert told(lambda: listing_of(names, sizes, stamps, member, root)) == told(
            lambda: scan(root)
        )


def listed(*names: str) -> Listing:
    contents = [name.encode() for name in names]
    sizes, stamps = [len(content) for content in contents], [7] * len(names)
    return listing_of(names, sizes, stamps, lambda i: io.BytesIO(contents[i]), Path("x.tar"))


def test_records_are_made_when_asked_for():
    found = listed("e\u0301/b.jpg", "cat/1.jpg", "cat-2/1.jpg", "cat/0.jpg")
    names = ["cat-2/1.jpg", "cat/0.jpg", "cat/1.jpg", "\u00e9/b.jpg"]
    shown = Made(found.shown, np.arange(4))
    assert list(found.names) == list(shown) == names
    assert found.names[1:3] == list(shown[1:3]) == names[1:3]
    assert found.names[-1] == shown[-1] == names[-1]
    assert found.names.spelled(3) == "e\u0301/b.jpg"
    assert found.labels.tolist() == [1, 0, 0, 2]
    assert read(found, 3) == "e\u0301/b.jpg".encode()
    with pytest.raises(IndexError):
        found.names[4]
    with pytest.raises(IndexError):
        shown[4]


def test_of_equal_names_the_last_holds():
    contents = [b"old", b"dog", b"new"]
    found = listing_of(
        ["cat/a.jpg", "dog/a.jpg", "cat/a.jpg"],
        [3, 3, 3],
        [1, 2, 3],
        lambda i: io.BytesIO(contents[i]),
        Path("x.tar"),
    )
    assert [read(found, i) for i in range(2)] == [b"new", b"dog"]
    assert found.stamps.tolist() == [3, 2]


@pytest.mark.parametrize("name", ["cat/a\0.jpg", ""])
def test_names_that_no_file_has(name):
    with pytest.raises(DataError, match=r"x\.tar: holds a file called"):
        listed("cat/a.jpg", "dog/a.jpg", name)


def test_no_names():
    assert list(Names([])) == []
    with pytest.raises(DataError, match=r"x\.tar: no class folders in x\.tar \(found: nothing\)"):
        listed()


@pytest.fixture
def photos(tmp_path) -> Path:
    grow(tmp_path / "photos", {"cat": {"a.jpg": b"1", "b": IMAGE}, "dog": {"c.jpg": b"2"}})
    return tmp_path / "photos"


def test_a_listing_travels_to_another_process(photos):
    found = pickle.loads(pickle.dumps(scan(photos)))
    assert [read(found, i) for i in range(3)] == [b"1", IMAGE, b"2"]
    (photos / "dog/c.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        found.open(2)


def test_the_stamp_changes_with_the_content(photos):
    before = scan(photos)
    path = photos / "cat/a.jpg"
    status = path.stat()
    while path.stat().st_ctime_ns == status.st_ctime_ns:  # the clock of file systems is coarse
        path.write_bytes(b"9")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = scan(photos)
    assert (after.sizes == before.sizes).all()
    assert (after.stamps != before.stamps).tolist() == [True, False, False]


def test_a_time_that_no_column_holds(photos):
    """Some file systems have the year 2400, whose nanoseconds are more than 63 bits."""
    path = photos / "cat/a.jpg"
    os.utime(path, (13_600_000_000, 13_600_000_000))
    assert scan(photos).stamps[0] >= 0


def test_progress_counts_up(photos):
    told: list[int] = []
    scan(photos, told.append)
    assert told == [2, 3]


def test_a_listing_is_small(tmp_path):
    """120 bytes an image at most, and scanning takes little more for a while."""
    for label in range(50):
        folder = tmp_path / f"n{label:08d}"
        folder.mkdir()
        for number in range(400):
            (folder / f"n{label:08d}_{number}.JPEG").touch()
    scan(tmp_path)  # what is loaded once
    tracemalloc.start()
    try:
        found = scan(tmp_path)
        now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 20_000
    assert now < 120 * len(found)
    assert most < 200 * len(found)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")
def test_each_file_is_looked_at_once(photos, tmp_path):
    (photos / "dog" / "link.jpg").symlink_to(photos / "cat" / "a.jpg")
    (photos / "dog" / "gone.jpg").symlink_to("nowhere")
    (photos / "dog" / "notes.txt").write_text("words")
    code = """if True:
        import sys
        from pathlib import Path
        from resnets.data import scan
        getattr(scan, sys.argv[1])(Path(sys.argv[2]))
    """
    looks = {}
    for name in ("scan", "names_in"):
        trace = tmp_path / name
        command = ["strace", "-f", "-qq", "-o", trace, "-e", "trace=/stat,access,readlink"]
        done = subprocess.run([*command, sys.executable, "-c", code, name, photos])
        if done.returncode:
            pytest.skip("strace may not trace here")
        text = trace.read_text()
        looks[name] = Counter(re.findall(r'"(?:[^"]*/)?(\w+\.jpg|b|notes\.txt)"', text))
    every = ["a.jpg", "b", "c.jpg", "link.jpg", "notes.txt"]
    assert {file: looks["scan"][file] for file in every} == dict.fromkeys(every, 1)
    assert looks["names_in"] == {"b": 1, "notes.txt": 1, "link.jpg": 1, "gone.jpg": 1}
