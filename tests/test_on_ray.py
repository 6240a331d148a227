"""--on: the parts of a table on a Ray cluster, whose nodes and drivers are killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import coloured
from ray_cluster import SECONDS, cluster_in, kill, processes, wait_for
from resnets import create_model
from resnets.cli import main
from resnets.errors import UsageError
from resnets.files import partial_of
from resnets.inference.attempts import Attempts, begun, parts_of
from resnets.inference.partition import record_of
from resnets.weights.save import save_weights
from resnets.weights.shipped import shipped

IMAGES = 240


def test_an_attempt_takes_over_what_was_done(tmp_path):
    """The journal of one that was killed is copied; whoever still writes it is in nobody's way."""
    parts, seen = Attempts(tmp_path / "all.csv", 16), []

    def killed(table):
        seen.append(table)
        partial_of(table).write_text("half")
        raise KeyboardInterrupt

    def whole(table):
        seen.append(partial_of(table).read_text())
        table.write_text("rows")
        record_of(table).write_text("{}")
        partial_of(table).unlink()
        return "made"

    with pytest.raises(KeyboardInterrupt):
        parts.make(3, killed)
    with seen[0].with_name("of a twin that lives").open("w") as twin:
        assert parts.make(3, whole) == "made"
        twin.write("late")
    assert seen[1:] == ["half"]
    assert [each.name for each in parts_of(parts.out).iterdir()] == ["03-of-16"]
    assert parts.make(3, lambda table: table.read_text()) == "rows"
    assert parts.table(3).parent.name == "03-of-16"
    assert begun(parts.out) == 16


def test_a_whole_attempt_that_was_not_renamed_is_kept(tmp_path):
    parts = Attempts(tmp_path / "all.csv", 2)
    left = parts.table(1).parent.with_name("1-of-2.0123abcd")
    left.mkdir(parents=True)
    (left / "part.csv").write_text("rows")
    record_of(left / "part.csv").write_text("{}")
    assert parts.make(1, lambda table: table) == parts.table(1)
    assert parts.table(1).read_text() == "rows"


def test_the_quicker_of_two_attempts_stays(tmp_path):
    parts = Attempts(tmp_path / "all.csv", 2)

    def write(table, rows, first=lambda: None):
        first()
        table.parent.mkdir(exist_ok=True)  # which the other took away
        table.write_text(rows)
        record_of(table).write_text("{}")

    parts.make(
        1, lambda table: write(table, "slow", lambda: parts.make(1, lambda t: write(t, "quick")))
    )
    assert parts.table(1).read_text() == "quick"
    assert [each.name for each in parts_of(parts.out).iterdir()] == ["1-of-2"]


def test_a_part_of_something_else_is_made_anew_with_overwrite(tmp_path):
    parts = Attempts(tmp_path / "all.csv", 2)
    parts.table(1).parent.mkdir(parents=True)
    parts.table(1).write_text("old")

    def write(table):
        if table.exists():
            raise UsageError("is there already")
        table.write_text("new")

    with pytest.raises(UsageError, match="is there already"):
        parts.make(1, write)
    parts.make(1, write, overwrite=True)
    assert parts.table(1).read_text() == "new"


@pytest.fixture
def refused(capsys):
    def ask(code: int, *words) -> str:
        with pytest.raises(SystemExit) as stop:
            main([*map(str, words)])
        assert stop.value.code == code
        return capsys.readouterr().err.split("error: ")[1]

    return ask


def test_options_that_do_not_go_together(tmp_path, refused):
    coloured(0, 0).save(tmp_path / "a.png")
    ask = ("predict", tmp_path / "a.png")
    table = ("--out", tmp_path / "all.csv")
    assert refused(2, *ask, "--parts", "2").startswith("--parts is of --on")
    assert refused(2, *ask, "--on", "ray").startswith("--on is for a table")
    both = refused(2, *ask, "--on", "ray", "--part", "1/2", *table)
    assert both.startswith("--on makes all parts, --part one of them")
    assert refused(2, *ask, "--on", "slurm", *table).startswith('"slurm" is no Ray cluster')
    parts = parts_of(tmp_path / "all.csv")
    (parts / "1-of-3").mkdir(parents=True)
    other = refused(2, *ask, "--on", "ray", "--parts", "2", *table)
    assert "all.csv: was begun in 3 parts\n hint: --parts 3 resumes it" in other
    (parts / "1-of-3").rmdir()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{nobody.getsockname()[1]}"
        assert refused(7, *ask, "--on", at, *table).startswith(f"{at}: nothing answers there")
    assert not parts.exists()
    assert not (tmp_path / "all.csv").exists()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    pytest.importorskip("ray")
    # Sockets lie in it, whose paths may have 107 letters.
    with cluster_in(tmp_path_factory.mktemp("r")) as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images that take their time, the table that one process makes of them, and a bad model."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "photos").mkdir()
    for number in range(IMAGES):
        small = np.random.default_rng(number).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        image = Image.fromarray(small).resize((2400, 1800))
        image.save(folder / "photos" / f"{number:03d}.jpg", quality=60)
    (folder / "photos" / "100.jpg").write_text("no image")
    torch.manual_seed(0)
    network = create_model("resnet8", image_size=16)
    network.fc.bias.data[0] = torch.nan
    network.outputs = "softmax"
    save_weights(network, folder / "nan.safetensors")
    one = resnets(folder, "predict", "photos", "--threads", "1", "--out", "one.csv")
    assert ended(one)[0] == 3
    return folder


def resnets(folder: Path, *words: str, **more) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "resnets", *words], cwd=folder, **pipes, **more)


def on(cluster, folder) -> subprocess.Popen:
    """The same table in parts on the cluster."""
    words = ("predict", "photos", "--on", cluster.address, "--parts", "5", "--out", "all.csv")
    return resnets(folder, *words, env=cluster.environment)


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def attempts(folder: Path, but: Iterable[Path] = ()) -> dict[Path, int]:
    """The attempts that are under way or lost, and how many bytes their journals have."""
    found = {}
    for each in {*parts_of(folder / "all.csv").glob("*-of-*.*")} - {*but}:
        journal = partial_of(each / "part.csv")
        found[each] = journal.stat().st_size if journal.exists() else 0
    return found


def whole(folder: Path) -> set[str]:
    return {each.name for each in parts_of(folder / "all.csv").glob("*-of-*") if not each.suffix}


def check_whole(folder: Path, process: subprocess.Popen, out: str = "all.csv") -> str:
    code, told, said = ended(process)
    assert code == 3, said
    assert told == f"{out}   {IMAGES} images of 5 parts, each once, 1 of them broken\n"
    assert (folder / out).read_bytes() == (folder / "one.csv").read_bytes()
    assert not parts_of(folder / out).exists()
    assert "Traceback" not in said
    assert "raylet" not in said
    (folder / out).unlink()
    return said


@pytest.mark.ray
def test_a_node_is_killed_in_the_middle(cluster, folder):
    second = cluster.second()
    process = on(cluster, folder)

    def both_are_busy():
        busy = processes(cluster.mark, "ray::_compute")
        sizes = attempts(folder)
        return len(busy) == len(sizes) == 2 and min(sizes.values()) > 900 and sizes

    try:
        before = wait_for(both_are_busy, "no part on each node")
    finally:
        kill(second)
    done = {each.stem: size for each, size in before.items()}

    def resumed():
        now = {each.stem: size for each, size in attempts(folder, but=before).items()}
        return {name: size for name, size in now.items() if size and name in done}

    ((name, size),) = wait_for(resumed, "it is not resumed").items()
    assert size >= done[name]  # when it is first seen
    said = check_whole(folder, process)
    assert re.search(r"node 127.0.0.\d is lost; what it was doing is resumed elsewhere", said)


@pytest.mark.ray
def test_a_driver_is_killed_and_one_is_stopped(cluster, folder):
    """What is whole is not made again, and nothing of a driver's is left running."""
    process = on(cluster, folder)
    wait_for(lambda: whole(folder), "no part is whole")
    process.kill()
    ended(process)
    wait_for(lambda: not processes(cluster.mark, "ray::_compute"), "a task has outlived its driver")
    kept = whole(folder)
    for signal_number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):
        process = on(cluster, folder)
        wait_for(lambda: processes(cluster.mark, "ray::_compute"), "no task")
        wait_for(lambda: attempts(folder), "no attempt")
        process.send_signal(signal_number)
        found, told, said = ended(process)
        assert (found, told) == (code, "")
        assert re.search(r"stopped: \d+ of 240 images are done and kept\n hint: the same", said)
        wait_for(
            lambda: not processes(cluster.mark, "ray::_compute"), "a task has outlived its driver"
        )
    process = on(cluster, folder)
    begun_now = set()
    while process.poll() is None:
        begun_now |= {each.stem for each in attempts(folder)}
        time.sleep(0.05)
    assert not begun_now & kept
    check_whole(folder, process)


@pytest.mark.ray
def test_what_a_part_raises_is_one_line(cluster, folder):
    words = ("predict", "nan.safetensors", "photos", "--preprocess", "mean=0.5 std=0.2")
    more = ("--on", cluster.address, "--out", "nan.csv")
    process = resnets(folder, *words, *more, env=cluster.environment)
    code, told, said = ended(process)
    assert (code, told) == (6, "")
    assert re.search(r"error: part \d/4: an answer is NaN or infinite\n hint: .*weights", said)
    assert "Traceback" not in said
    assert not processes(cluster.mark, "ray::_compute")


@pytest.mark.ray
def test_embeddings_from_a_client(cluster, folder):
    """Also from where no node is; the table is the one of a single process."""
    pytest.importorskip("grpc")
    ask = ("embed", "photos")
    assert ended(resnets(folder, *ask, "--out", "one.npz", "--device", "cpu"))[0] == 3
    environment = cluster.environment | {"RAY_ADDRESS": cluster.client}
    code, told, said = ended(
        resnets(folder, *ask, "--on", "ray", "--out", "all.npz", "--json", env=environment)
    )
    assert code == 3, said
    assert json.loads(told) == {"path": "all.npz", "parts": 2, "pictures": 240, "broken": 1}
    for name in ("{}.npz", "{}.npz.broken.json"):
        one, both = (folder / name.format(each) for each in ("one", "all"))
        assert one.read_bytes() == both.read_bytes()


ASK = """
import sys
from pathlib import Path
from resnets.errors import ResourceError
from resnets.integrations.ray_parts import Needs, joined
with joined(sys.argv[1]) as cluster:
    try:
        cluster.check(Needs(Path.cwd(), ("photos", "nowhere/x"), {"resnets": "9", "pillow": "1"}))
    except ResourceError as error:
        print(error.message, error.hint, file=sys.stderr)
"""


@pytest.mark.ray
def test_what_a_node_lacks_is_said(cluster, folder):
    words = [sys.executable, "-c", ASK, cluster.address]
    asked = subprocess.run(
        words, cwd=folder, env=cluster.environment, capture_output=True, text=True
    )
    assert f": there is no {folder}/nowhere/x\n" in asked.stderr
    assert re.search(
        r": has resnets \S+; here it is 9\n.*: has pillow \S+; here it is 1 ", asked.stderr
    )
    assert asked.stdout == ""


@pytest.mark.ray
def test_a_cluster_of_this_command(folder):
    """Without an address one is started, and ended with the command."""
    environment = {**os.environ, "RESNETS_TEST_NODE": "own"}
    environment.pop("RAY_ADDRESS", None)
    words = ("predict", "photos", "--on", "ray", "--parts", "5", "--out", "own.csv")
    process = resnets(folder, *words, env=environment)
    try:
        check_whole(folder, process, "own.csv")
        wait_for(lambda: not processes("own"), "processes of Ray are left")
    finally:
        kill("own")


PIPELINE = """
import sys
import ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
import ray.data
from resnets.integrations.ray import Predictor
rows = ray.data.read_binary_files(sys.argv[3], include_paths=True).map_batches(
    Predictor, fn_constructor_args=(sys.argv[2],), fn_constructor_kwargs={"top": 1}, num_cpus=1,
    compute=ray.data.ActorPoolStrategy(size=1)).take_all()
print(len(rows), len({row["path"] for row in rows}), sum(row["error"] is not None for row in rows))
"""


@pytest.mark.ray
def test_predictor_in_a_pipeline(cluster, folder):
    """One processor reads, one predicts."""
    pytest.importorskip("pandas")  # which Ray Data needs
    second = cluster.second()
    model = str(shipped("resnet20", "cifar10"))
    try:
        words = [sys.executable, "-c", PIPELINE, cluster.address, model, str(folder / "photos")]
        run = subprocess.run(
            words, cwd=folder, env=cluster.environment, capture_output=True, text=True
        )
        assert run.stdout == f"{IMAGES} {IMAGES} 1\n", run.stderr
    finally:
        kill(second)
