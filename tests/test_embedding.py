"""Embeddings: what they are, tables of them, and what a stop or a broken image does to these."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import coloured, largest_file
from resnets import create_model
from resnets.errors import CheckpointError, DataError, NonFiniteError, ResourceError, UsageError
from resnets.files import alone
from resnets.inference.embedding import Embedded, embed_folder
from resnets.inference.embedding_table import write_table


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("resnet8", image_size=16)


@pytest.fixture
def pictures(tmp_path):
    """Twenty images in sub-folders."""
    for number in range(20):
        folder = tmp_path / "photos" / ("b" if number % 2 else "a")
        folder.mkdir(parents=True, exist_ok=True)
        coloured(number % 3, number, side=20).save(folder / f"é {number:02d}.png")
    return tmp_path / "photos"


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.mark.parametrize("name", ["resnet8", "resnet8_v2", "plain8", "resnet11", "resnet18"])
def test_embed_is_what_the_classifier_reads(name):
    torch.manual_seed(0)
    model = create_model(name, dropout=0.5).double().eval()
    x = torch.randn(3, 3, 40, 32, dtype=torch.float64)
    with torch.no_grad():
        found = model.embed(x)
        assert found.shape == (3, model.spec.channels[-1])
        torch.testing.assert_close(model.fc(found), model(x))
        unit = model.embed(x, normalize=True)
        torch.testing.assert_close(unit, found / found.square().sum(1, keepdim=True).sqrt())
        torch.testing.assert_close(unit.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_embed_keeps_gradients_and_zero():
    model = create_model("resnet8")
    model.embed(torch.rand(2, 3, 16, 16)).sum().backward()
    assert model.conv1.weight.grad.abs().sum() > 0
    torch.nn.init.zeros_(model.layer3[0].bn2.weight)
    torch.nn.init.constant_(model.layer3[0].bn2.bias, -1e9)
    assert not model.eval().embed(torch.rand(1, 3, 16, 16), normalize=True).any()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_the_table_is_model_embed(model, pictures, tmp_path, normalize, batch_size):
    out = tmp_path / "new" / "table.npz"
    model.layer1.eval()
    modes = [module.training for module in model.modules()]
    told = []
    table = embed_folder(
        model,
        pictures,
        out,
        normalize=normalize,
        batch_size=batch_size,
        on_progress=lambda *numbers: told.append(numbers),
    )
    assert table == Embedded(out, 20, 64, 0, (), None)
    assert told == [(min(n, 20), 20) for n in range(batch_size, 20 + batch_size, batch_size)]
    assert [module.training for module in model.modules()] == modes
    assert os.listdir(out.parent) == ["table.npz"]
    content = np.load(out)
    assert sorted(content.files) == ["embeddings", "paths"]
    assert content["paths"].tolist() == names(pictures)
    assert content["embeddings"].dtype == np.float32
    files = [pictures / name for name in content["paths"]]
    with torch.no_grad():
        expected = model.eval().embed(model.preprocess(files), normalize).numpy()
    np.testing.assert_allclose(content["embeddings"], expected, rtol=1e-5, atol=1e-6)


def test_rows_are_bit_for_bit_those_of_the_same_batch(model, pictures, tmp_path):
    embed_folder(model, pictures, tmp_path / "t.npz", batch_size=4)
    content = np.load(tmp_path / "t.npz")
    for start in range(0, 20, 4):
        files = [pictures / name for name in content["paths"][start : start + 4]]
        with torch.no_grad():
            expected = model.eval().embed(model.preprocess(files)).numpy()
        assert (content["embeddings"][start : start + 4] == expected).all()


def test_one_image_by_a_name_from_here(model, tmp_path, monkeypatch):
    coloured(0, 1, side=4).save(tmp_path / "one.png")
    monkeypatch.chdir(tmp_path)
    assert embed_folder(model, "one.png", "t.npz").images == 1
    assert np.load("t.npz")["paths"].tolist() == ["one.png"]


def test_batches_end_where_a_chunk_does(model, tmp_path):
    """As earlier versions cut them: the last bits of a row may depend on its batch."""
    coloured(0, 1, side=4).save(tmp_path / "tiny.png")
    (tmp_path / "photos").mkdir()
    for number in range(130):
        os.link(tmp_path / "tiny.png", tmp_path / "photos" / f"{number:03d}.png")
    told = []
    embed_folder(
        model,
        tmp_path / "photos",
        tmp_path / "t.npz",
        batch_size=50,
        on_progress=lambda done, total: told.append(done),
    )
    assert told == [50, 100, 128, 130]


def test_groups_of_rows_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = np.arange(20 * 64, dtype=np.float32).reshape(20, 64)
    parts = [rows[start : start + 4] for start in range(0, 20, 4)]
    names = [f"{number}.png" for number in range(20)]
    write_table(tmp_path / "t.parquet", names, 64, parts, row_group=8 * 64 * 4)
    file = parquet.ParquetFile(tmp_path / "t.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(3)] == [8, 8, 4]
    assert (np.array(file.read()["embedding"].to_pylist()) == rows).all()


def test_parquet(model, pictures, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (pictures / "a" / "bad.png").write_text("hello")
    for out in (tmp_path / "t.parquet", tmp_path / "t.npz"):
        embed_folder(model, pictures, out)
    table, content = parquet.read_table(tmp_path / "t.parquet"), np.load(tmp_path / "t.npz")
    assert table["path"].to_pylist() == content["paths"].tolist()
    rows = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    assert (rows == content["embeddings"]).all()
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[64]"
    first = (tmp_path / "t.parquet").read_bytes()
    embed_folder(model, pictures, tmp_path / "t.parquet", overwrite=True)
    assert (tmp_path / "t.parquet").read_bytes() == first


class Stop(BaseException):
    """What the outside does to a run."""


def stopped_at(model, count):
    """Let the model's preprocessing stop the run when it is asked for one image more."""
    genuine, left = model.preprocess, [count]

    class Stopping(type(genuine)):
        def __call__(self, images):
            if left[0] == 0:
                raise Stop
            left[0] -= 1
            return super().__call__(images)

    return Stopping.from_dict(genuine.to_dict())


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("counts", [[0], [1], [4], [7], [5, 5], [19], [3, 6, 9]])
def test_a_stopped_run_goes_on_to_the_same_bytes(model, pictures, tmp_path, suffix, counts):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    (pictures / "a" / "é 03.png").write_text("hello")
    (pictures / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    embed_folder(model, pictures, whole, batch_size=4)
    out.write_text("an earlier table")
    genuine = model.preprocess
    done = 0
    for count in counts:
        model.preprocess = stopped_at(model, count)
        with pytest.raises(Stop):
            embed_folder(model, pictures, out, batch_size=4, overwrite=True)
        model.preprocess = genuine
        done += count // 4 * 4
        assert out.read_text() == "an earlier table"
    table = embed_folder(model, pictures, out, batch_size=4, overwrite=True)
    assert table.resumed == done
    assert out.read_bytes() == whole.read_bytes()
    lists = [path.with_name(f"{path.name}.broken.json") for path in (whole, out)]
    assert lists[0].read_bytes() == lists[1].read_bytes()
    assert [entry["path"] for entry in json.loads(lists[0].read_text())] == [
        "a/é 03.png",
        "b/broken.jpg",
    ]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("size", [10, 1000, 20 * 64 * 4 + 300])  # the list, embeddings, paths
def test_a_full_disk_while_the_table_is_put_together(model, pictures, tmp_path, size):
    (pictures / "a" / "bad.png").write_text("hello")
    embed_folder(model, pictures, tmp_path / "whole.npz")
    assert size < (tmp_path / "whole.npz").stat().st_size

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        embed_folder(model, pictures, tmp_path / "out.npz", on_progress=stop)
    with largest_file(size), pytest.raises(ResourceError, match="cannot be written"):
        embed_folder(model, pictures, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
    model.preprocess = stopped_at(model, 1)  # nothing but the broken one is read again
    assert embed_folder(model, pictures, tmp_path / "out.npz").resumed == 21
    assert (tmp_path / "out.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
from resnets import create_model
from resnets.data.preprocess import Preprocess
from resnets.inference.embedding import embed_folder
images, out, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.manual_seed(0)
model = create_model("resnet8", image_size=16)
read = Preprocess.__call__
def killing(self, images):
    global kill_at
    kill_at -= 1
    if kill_at == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, images)
Preprocess.__call__ = killing
print(embed_folder(model, images, out, batch_size=4).resumed)
"""


def test_a_killed_process_goes_on_to_the_same_bytes(pictures, tmp_path):
    def run(out, kill_at):
        words = [sys.executable, "-c", KILLED, str(pictures), str(out), str(kill_at)]
        return subprocess.run(words, capture_output=True, text=True)

    assert run(tmp_path / "whole.npz", 0).stdout == "0\n"
    killed = run(tmp_path / "out.npz", 15)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "out.npz").exists()
    assert int(run(tmp_path / "out.npz", 0).stdout) >= 4  # threads read ahead of the kill
    assert (tmp_path / "out.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.fixture
def begun(model, pictures, tmp_path):
    """A run that was stopped after eight images."""
    genuine, model.preprocess = model.preprocess, stopped_at(model, 8)
    with pytest.raises(Stop):
        embed_folder(model, pictures, tmp_path / "out.npz", batch_size=4)
    model.preprocess = genuine
    return tmp_path / "out.npz"


def another_weight(model, pictures):
    with torch.no_grad():
        model.layer3[0].bn2.running_mean[5] += 1e-3


def another_preprocessing(model, pictures):
    model.preprocess = replace(model.preprocess, mean=(0.5, 0.5, 0.5))


def another_picture(model, pictures):
    coloured(0, 99).save(pictures / "a" / "new.png")


def one_less(model, pictures):
    (pictures / "b" / "é 19.png").unlink()


def another_content(model, pictures):
    path = pictures / "a" / "é 00.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # as long as before
    path.write_bytes(content)
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (another_weight, "weights or preprocessing"),
        (another_preprocessing, "weights or preprocessing"),
        (another_picture, "images"),
        (one_less, "images"),
        (another_content, "images"),
    ],
)
def test_a_change_is_noticed(model, pictures, begun, change, what):
    change(model, pictures)
    with pytest.raises(UsageError) as caught:
        embed_folder(model, pictures, begun, batch_size=4)
    assert caught.value.message == f"{begun}: was begun with other {what}"
    assert "--overwrite" in caught.value.hint
    assert not begun.exists()
    fresh = begun.with_name("fresh.npz")
    embed_folder(model, pictures, fresh, batch_size=4)
    assert embed_folder(model, pictures, begun, batch_size=4, overwrite=True).resumed == 0
    assert begun.read_bytes() == fresh.read_bytes()


@pytest.mark.parametrize("options", [{"normalize": True}, {"batch_size": 8}])
def test_other_options_are_noticed(model, pictures, begun, options):
    with pytest.raises(UsageError, match="|".join(options).replace("_", " ")):
        embed_folder(model, pictures, begun, **{"batch_size": 4} | options)


def test_overwrite_keeps_what_fits(model, pictures, begun):
    assert embed_folder(model, pictures, begun, batch_size=4, overwrite=True).resumed == 8


@pytest.mark.parametrize("now", ["whole", "broken otherwise"])
def test_a_broken_picture_is_looked_at_again(model, pictures, tmp_path, now):
    """A share that was away, or a permission: neither size nor time of the file shows it."""
    path = pictures / "a" / "é 08.png"
    content, status = path.read_bytes(), path.stat()

    def write(content):
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    write(b"\0" * len(content))
    genuine, model.preprocess = model.preprocess, stopped_at(model, 8)
    with pytest.raises(Stop):
        embed_folder(model, pictures, tmp_path / "out.npz", batch_size=4)
    model.preprocess = genuine
    write(content if now == "whole" else b"%PDF".ljust(len(content)))
    whole = embed_folder(model, pictures, tmp_path / "whole.npz", batch_size=4)
    table = embed_folder(model, pictures, tmp_path / "out.npz", batch_size=4)
    assert table.resumed == 4  # not the batch it is in
    assert table.broken == whole.broken
    assert len(table.broken) == (0 if now == "whole" else 1)
    assert table.path.read_bytes() == whole.path.read_bytes()


def test_a_file_of_somebody_else_is_not_replaced(model, pictures, tmp_path):
    out = tmp_path / "mine.npz"
    out.write_text("mine")
    genuine, model.preprocess = model.preprocess, stopped_at(model, 0)  # nothing is read
    with pytest.raises(UsageError, match=r"mine\.npz: is there already") as caught:
        embed_folder(model, pictures, out)
    assert "--overwrite" in caught.value.hint
    assert out.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "mine.npz"}
    model.preprocess = genuine
    assert embed_folder(model, pictures, out, overwrite=True).images == 20


def test_a_file_that_came_after_a_stop_is_not_replaced(model, pictures, begun):
    begun.write_text("mine")
    with pytest.raises(UsageError, match=r"out\.npz: is there already"):
        embed_folder(model, pictures, begun, batch_size=4)
    assert begun.read_text() == "mine"
    begun.unlink()
    assert embed_folder(model, pictures, begun, batch_size=4).resumed == 8


def test_damaged_remains_are_made_again(model, pictures, begun):
    embed_folder(model, pictures, begun.with_name("whole.npz"), batch_size=4)
    (partial,) = begun.parent.glob(".out.npz.partial")
    lines = partial.read_bytes().splitlines(keepends=True)
    partial.write_bytes(b"".join([*lines[:7], lines[7][:100]]))
    assert embed_folder(model, pictures, begun, batch_size=4).resumed == 4
    assert begun.read_bytes() == begun.with_name("whole.npz").read_bytes()
    assert not partial.exists()


def test_remains_of_an_unknown_job_are_not_used(model, pictures, begun):
    (partial,) = begun.parent.glob(".out.npz.partial")
    partial.write_bytes(b"{" + partial.read_bytes())
    assert embed_folder(model, pictures, begun, batch_size=4).resumed == 0


def test_remains_are_not_looked_for_behind_a_link(model, pictures, begun, tmp_path):
    (partial,) = begun.parent.glob(".out.npz.partial")
    theirs = partial.rename(tmp_path / "theirs")
    content = theirs.read_bytes()
    partial.symlink_to(theirs)
    with pytest.raises(UsageError, match="is a symbolic link"):
        embed_folder(model, pictures, begun, batch_size=4)
    assert theirs.read_bytes() == content


def test_broken_pictures(model, pictures, tmp_path):
    (pictures / "a" / "text.jpg").write_text("hello")
    (pictures / "b" / "link.png").symlink_to("nowhere.png")
    met = []
    table = embed_folder(
        model, pictures, tmp_path / "t.npz", on_broken=lambda e: met.append(e.message)
    )
    assert table.images == 20
    assert [picture.path for picture in table.broken] == ["a/text.jpg", "b/link.png"]
    assert json.loads(table.broken_list.read_text()) == [
        {"path": "a/text.jpg", "reason": "is text, not an image"},
        {"path": "b/link.png", "reason": "cannot be read: No such file or directory"},
    ]
    assert len(met) == 2
    assert np.load(tmp_path / "t.npz")["paths"].tolist() == names(pictures)[:10] + [
        name for name in names(pictures)[10:] if "link" not in name
    ]
    (pictures / "a" / "text.jpg").unlink()
    (pictures / "b" / "link.png").unlink()
    assert embed_folder(model, pictures, tmp_path / "t.npz", overwrite=True).broken_list is None
    assert not table.broken_list.exists()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_all_broken(model, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("hello")
    table = embed_folder(model, tmp_path / "photos", tmp_path / f"t{suffix}")
    assert (table.images, len(table.broken)) == (0, 1)
    if suffix == ".npz":
        assert np.load(table.path)["embeddings"].shape == (0, 64)
        assert np.load(table.path)["paths"].shape == (0,)


def test_one_picture_and_strange_names(model, pictures, tmp_path):
    path = pictures / "a" / "é 00.png"
    embed_folder(model, path, tmp_path / "one.npz")
    assert np.load(tmp_path / "one.npz")["paths"].tolist() == ["é 00.png"]
    os.rename(path, os.fsencode(pictures / "a" / "new\nline ") + b"\xff.png")
    embed_folder(model, pictures / "a", tmp_path / "a.npz")
    assert np.load(tmp_path / "a.npz")["paths"][0] == "new\\nline \\udcff.png"


def test_what_cannot_be_embedded(model, pictures, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"ends in \.npz or \.parquet"):
        embed_folder(model, pictures, tmp_path / "t.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ResourceError) as caught:
        embed_folder(model, pictures, tmp_path / "t.parquet")
    assert 'pip install "resnets[parquet]"' in caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        embed_folder(model, tmp_path / "empty", tmp_path / "t.npz")
    with pytest.raises(DataError, match="no such folder"):
        embed_folder(model, tmp_path / "nowhere", tmp_path / "t.npz")
    model.preprocess = None
    with pytest.raises(CheckpointError, match="how images must be prepared"):
        embed_folder(model, pictures, tmp_path / "t.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "empty"}


def test_embeddings_that_are_nan(model, pictures, tmp_path):
    torch.nn.init.constant_(model.conv1.weight, float("nan"))
    with pytest.raises(NonFiniteError):
        embed_folder(model, pictures, tmp_path / "t.npz")


MEASURED = r"""
import json, re, sys, torch
torch.set_num_threads(1)
from dataclasses import replace
from resnets import create_model, get_spec
from resnets.inference.embedding import embed_folder
spec = replace(get_spec("resnet8"), depths=(1,), widths=(8,), stem_width=8, block="bottleneck",
               out_channels=(16384,), shortcut="none", image_size=2)
model = create_model(spec)
peaks = []
for folder in ("few", "many"):
    table = embed_folder(model, f"{sys.argv[1]}/{folder}", f"{sys.argv[1]}/{folder}{sys.argv[2]}")
    # not ru_maxrss, which begins with what the process that started this one had
    peaks.append(1024 * int(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1]))
print(json.dumps({"peaks": peaks, "pictures": table.images}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's accounts")
# What Arrow's threads keep for themselves depends on when they run.
@pytest.mark.parametrize("suffix", [".npz", pytest.param(".parquet", marks=pytest.mark.quiet)])
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path, suffix):
    """1,300 embeddings of 64 KiB take what 300 take, although they are 62 MiB more."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    coloured(0, 0, side=2).save(tmp_path / "tiny.png")
    content = (tmp_path / "tiny.png").read_bytes()
    for folder, count in (("few", 300), ("many", 1300)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number:05d}.png").write_bytes(content)
    words = [sys.executable, "-c", MEASURED, str(tmp_path), suffix]
    result = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    assert result["pictures"] == 1300
    few, many = result["peaks"]
    assert many - few < 24 << 20


def test_killed_between_the_table_and_the_end(model, pictures, tmp_path):
    """The same command knows its own table, and tidies up."""
    out = tmp_path / "out.npz"

    def stop(done, total):
        if done == total:
            raise Stop

    with pytest.raises(Stop):
        embed_folder(model, pictures, out, on_progress=stop)
    embed_folder(model, pictures, tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    out.write_bytes(whole)  # as it had its name already
    assert embed_folder(model, pictures, out).resumed == 20
    assert out.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "out.npz", "whole.npz"}


def test_two_processes_do_not_write_one_table(model, pictures, tmp_path):
    with (
        alone(tmp_path / "out.npz"),
        pytest.raises(ResourceError, match=r"out\.npz: another process is writing it"),
    ):
        embed_folder(model, pictures, tmp_path / "out.npz")
    assert embed_folder(model, pictures, tmp_path / "out.npz").images == 20
