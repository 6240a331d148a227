"""The run folder: states, what overwriting removes, and one process at a time."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from platform import node

import pytest
import torch

from resnets.errors import CheckpointError, ResourceError, UsageError
from resnets.files import write_bytes
from resnets.run_folder.directory import RunFolder
from resnets.run_folder.record import Epoch, LedgerLine, Record, from_plain
from resnets.weights.tensors import damaged, read_tensors, write_tensors

MANIFEST = "pictures.sha256"


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """A folder whose run has begun."""
    folder = RunFolder(tmp_path / "my run")
    folder.create()
    folder.write_record(Record(status="running"))
    return folder


def names(path: Path) -> set[str]:
    return {p.name for p in path.iterdir()}


# States


def test_states_are_listed_by_step(folder):
    assert folder.states() == []
    for step in (352, 99_999_999, 0, 100_000_000, 40):
        write_bytes(folder.state_path(step), b"")
    assert [path.name for path in folder.states()] == [
        "step-100000000.safetensors",
        "step-99999999.safetensors",
        "step-00000352.safetensors",
        "step-00000040.safetensors",
        "step-00000000.safetensors",
    ]
    assert folder.states()[0] == folder.state_path(100_000_000)


def test_prune_keeps_the_last_states_and_foreign_files(folder):
    for step in range(0, 50, 10):
        write_bytes(folder.state_path(step), b"")
    state = folder.state_path(0).parent
    foreign = {"notes.txt", "step-7.safetensors", "step-00000010.safetensors.bak", ".mine.tmp"}
    for name in foreign | {".step-00000050.safetensors.tmp"}:
        (state / name).write_text("half")
    folder.prune()
    assert folder.states() == [folder.state_path(40), folder.state_path(30)]
    assert names(state) == foreign | {path.name for path in folder.states()}
    folder.prune(keep=1)
    assert folder.states() == [folder.state_path(40)]
    folder.prune(keep=0)
    shutil.rmtree(state)
    folder.prune()


def test_a_damaged_state_leaves_an_earlier_one(folder):
    """The order in which they are tried, down to the first that is what was written."""
    for step in (1, 2, 3):
        write_tensors(folder.state_path(step), {"t": torch.full((9,), step)}, {"step": str(step)})
    newest = folder.states()[0]
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    whole = [path for path in folder.states() if not damaged(*read_tensors(path))]
    assert read_tensors(whole[0])[1]["step"] == "2"


# Making and overwriting


def test_overwriting_removes_all_of_a_run_and_nothing_else(folder, tmp_path):
    write_bytes(folder.state_path(3), b"")
    folder.write_metrics([Epoch(epoch=1.0, step=5)])
    folder.write_ledger([LedgerLine(1, 5, 40, "é"), LedgerLine(2, 5, 40, "f")])
    lines = [line for _, line in folder.rows(folder.ledger)]
    assert [from_plain(LedgerLine, line, "") for line in lines] == [
        LedgerLine(1, 5, 40, "é"),
        LedgerLine(2, 5, 40, "f"),
    ]
    for file in (folder.recipe, folder.data, folder.mistakes, folder.nonfinite, folder.weights):
        file.write_text("")
    for file in (folder.drawing, folder.report, folder.path / ".metrics.jsonl.tmp"):
        file.write_text("")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "events").write_text("kept elsewhere")
    folder.tensorboard.symlink_to(tmp_path / "scratch")
    (folder.path / "notes.txt").write_text("mine")
    folder.create(overwrite=True)
    assert names(folder.path) - {".lock"} == {"notes.txt"}
    assert names(tmp_path / "scratch") == {"events"}
    with pytest.raises(UsageError, match="not empty and not a run"):
        folder.create()
    folder.create(overwrite=True)  # as the next run in the place of this one does


def test_overwriting_that_is_interrupted_can_be_repeated(folder, monkeypatch):
    folder.weights.write_text("")
    folder.state_path(1).parent.mkdir()
    with monkeypatch.context() as patch:
        # Raised by hand: a job in the background has the signal ignored.
        patch.setattr(shutil, "rmtree", lambda path: signal.default_int_handler(2, None))
        with pytest.raises(KeyboardInterrupt):
            folder.create(overwrite=True)
    assert folder.record.exists()
    folder.create(overwrite=True)
    assert names(folder.path) <= {".lock"}


@pytest.mark.parametrize(
    "left", [".run.json.tmp", ".pictures.sha256.tmp", ".pictures.sha256.0123abcd.tmp", MANIFEST]
)
def test_a_run_killed_before_its_record_is_no_obstacle(tmp_path, left):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    (folder.path / ".lock").write_text('{"pid": 1}')
    (folder.path / left).write_text('{"da')
    folder.create()
    with folder.lock():
        folder.create()


def fails_to_lock(folder: RunFolder, reason: str) -> None:
    with pytest.raises(ResourceError) as caught, folder.lock():
        pytest.fail("locked")
    assert caught.value.message == f"{folder.path}: cannot be made or changed: {reason}"
    assert caught.value.exit_code == 7


def test_places_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    for path, said in (("file", "is a file, not a folder"), ("file/run", "Not a directory")):
        folder = RunFolder(tmp_path / path)
        with pytest.raises(ResourceError, match=said) as caught:
            folder.create()
        assert caught.value.exit_code == 7
        fails_to_lock(folder, "Not a directory")


def test_a_folder_that_vanished_or_became_a_file(folder):
    shutil.rmtree(folder.path)
    fails_to_lock(folder, "No such file or directory")
    assert not folder.path.exists()
    with pytest.raises(CheckpointError, match="not a run folder"):
        folder.read_record()
    folder.path.write_text("")
    fails_to_lock(folder, "Not a directory")


def test_a_folder_on_a_disk_that_became_read_only(folder, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    fails_to_lock(folder, "Read-only file system")


# One process at a time

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from resnets.run_folder.directory import RunFolder

with RunFolder(Path(sys.argv[1])).lock():
    child = subprocess.Popen(["sleep", "100"], close_fds=False, stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.read()
child.kill()
child.wait()
print("released", flush=True)
"""


@contextmanager
def another_process(folder: RunFolder):
    """A process that holds the lock until its input ends, with a child that outlives it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        child = int(process.stdout.readline())
        yield process, child


def test_another_process_is_told_who_is_there(folder):
    began = datetime.now(UTC).replace(microsecond=0)
    with another_process(folder) as (process, _):
        with pytest.raises(ResourceError) as caught, folder.lock():
            pytest.fail("locked")
        found = re.fullmatch(
            rf"{re.escape(str(folder.path))}: another process is using this run: "
            rf"pid {process.pid} on {re.escape(node())} since (\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ)",
            caught.value.message,
        )
        assert began <= datetime.fromisoformat(found[1]) <= datetime.now(UTC)
        assert caught.value.hint == (
            f"wait for it or stop it (kill -TERM {process.pid} saves first); or give another --out"
        )
        holder = json.loads((folder.path / ".lock").read_text())
        assert holder == {"pid": process.pid, "host": node(), "since": found[1]}
        with pytest.raises(ResourceError, match=f"pid {process.pid}"):
            folder.create(overwrite=True)
        assert folder.record.exists()
        process.stdin.close()
        assert process.stdout.readline() == "released\n"
        with folder.lock():
            assert json.loads((folder.path / ".lock").read_text())["pid"] == os.getpid()


def test_a_killed_process_holds_no_lock(folder):
    with another_process(folder) as (process, child):
        process.kill()
        process.wait()
        try:
            os.kill(child, 0)  # still there, and has not inherited the lock
            with folder.lock():
                assert json.loads((folder.path / ".lock").read_text())["pid"] == os.getpid()
        finally:
            os.kill(child, signal.SIGKILL)


FORKED = """
import os, sys
from pathlib import Path
from resnets.run_folder.directory import RunFolder

reading, writing = os.pipe()
with RunFolder(Path(sys.argv[1])).lock():
    if os.fork() == 0:
        os.close(writing)
        os.read(reading, 1)  # until the other process has ended
        os._exit(0)
with RunFolder(Path(sys.argv[1])).lock():
    print("released")
"""


def test_a_forked_process_does_not_keep_a_lock_that_was_released(folder):
    words = [sys.executable, "-c", FORKED, folder.path]
    assert subprocess.run(words, capture_output=True, text=True).stdout == "released\n"


def test_locks_nest_and_end_with_errors(folder):
    def work():
        with folder.lock():
            with folder.lock():
                folder.create(overwrite=True)
            with pytest.raises(ResourceError, match="another process is using"), other.lock():
                pytest.fail("locked")
            raise KeyboardInterrupt

    other = RunFolder(folder.path)
    with pytest.raises(KeyboardInterrupt):
        work()
    with other.lock():
        pass
    assert (folder.path / ".lock").read_text() == ""


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": 1}', "\x00"])
def test_a_lock_that_says_nothing(folder, content):
    """Between locking and writing, or damaged."""
    with folder.lock():
        (folder.path / ".lock").write_text(content)
        with pytest.raises(ResourceError) as caught, RunFolder(folder.path).lock():
            pytest.fail("locked")
    assert caught.value.message == f"{folder.path}: another process is using this run"
    assert caught.value.hint == "wait for it or stop it; or give another --out"


def test_a_file_system_without_locks(folder, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with folder.lock(), RunFolder(folder.path).lock():
        pass
