"""How a process shares the machine: a container's quota, glibc's large blocks."""

import json
import os
import subprocess
import sys

import pytest

from resnets.machine import environment
from resnets.machine.cpu import keep_large_blocks, quota, settings, settle

OWN = "0::/outer/inner\n"
OWN_V1 = "4:cpu,cpuacct:/outer\n3:memory:/outer\n"


def groups(tmp_path, own, files):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "root", tmp_path / "own"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        (OWN, {}, None),
        (OWN, {"outer/inner/cpu.max": "max 100000\n"}, None),
        (OWN, {"outer/inner/cpu.max": "150000 100000\n"}, 1.5),
        (OWN, {"outer/inner/cpu.max": "400000 100000", "outer/cpu.max": "50000 100000"}, 0.5),
        ("0::/\n", {"cpu.max": "200000 50000\n"}, 4.0),  # as seen from within a container
        (OWN, {"outer/inner/cpu.max": "what is this\n"}, None),
        (
            OWN_V1,
            {
                "cpu,cpuacct/outer/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/outer/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            OWN_V1,
            {
                "cpu,cpuacct/outer/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/outer/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_quota_is_the_least_that_any_group_allows(tmp_path, own, files, cores):
    assert quota(*groups(tmp_path, own, files)) == cores


def test_no_control_groups(tmp_path):
    assert quota(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("limit", "threads"), [("25000", 1), ("150000", 2), ("400000000", 4000), ("max", 10**6)]
)
def test_threads_follow_the_quota(tmp_path, limit, threads):
    """Where it is less than the cores that are there."""
    environment: dict[str, str] = {}
    settle(environment, *groups(tmp_path, OWN, {"outer/cpu.max": f"{limit} 100000"}))
    fewer = threads < len(os.sched_getaffinity(0))
    assert environment == ({"OMP_NUM_THREADS": str(threads)} if fewer else {})


def test_what_the_user_has_set_stays(tmp_path):
    environment = {"OMP_NUM_THREADS": "3"}
    settle(environment, *groups(tmp_path, OWN, {"outer/cpu.max": "50000 100000"}))
    assert environment == {"OMP_NUM_THREADS": "3"}


def test_settings_are_what_decides():
    environment = {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "9", "HOME": "/", "MKL_X": "1"}
    assert settings(environment) == {"GOMP_SPINCOUNT": "9", "MKL_X": "1", "OMP_NUM_THREADS": "2"}


FAULTS = """
import resource
from resnets.machine.cpu import keep_large_blocks
keep_large_blocks()
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(2**21) for _ in range(8)]  # 8 MiB each, as the activations of resnet20
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(6)][-1])
"""


def page_faults(script=FAULTS, **variables):
    """How many pages the sixth of equal steps takes from the system."""
    command = [sys.executable, "-c", script]
    environment = {**os.environ, **variables}
    return int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own way")
def test_large_blocks_are_kept_but_where_the_user_says_otherwise():
    assert page_faults() < 1000
    assert page_faults(MALLOC_TRIM_THRESHOLD_="100000") > 10_000


RETURNS = """
import resource
from resnets.machine.cpu import return_large_blocks
return_large_blocks()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * 2**24
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(6)][-1])
"""
KEPT = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "2000000000"}


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own way")
def test_large_blocks_are_returned_but_where_the_user_says_otherwise():
    assert page_faults(RETURNS) > 200  # 4096, or fewer and larger pages
    assert page_faults(RETURNS, **KEPT) < 100


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own way")
@pytest.mark.parametrize(
    ("environment", "kept"),
    [({}, True), ({"RESNETS_LARGE_BLOCKS": "0"}, False), ({"GLIBC_TUNABLES": "x"}, False)],
)
def test_large_blocks_have_an_off_switch(environment, kept):
    assert keep_large_blocks(environment) == kept


@pytest.mark.parametrize(
    ("precision", "flags", "said"),
    [
        ("bfloat16", "fpu avx2 avx512f avx512_bf16", "channels-last, bfloat16\n"),
        ("bfloat16", "fpu avx2", "bfloat16 (which this processor emulates, many times slower"),
        ("bfloat16", "", "channels-last, bfloat16\n"),  # nobody knows
        ("float32", "fpu avx2", "channels-last\n"),
    ],
)
def test_a_run_says_when_its_precision_is_emulated(
    photos, tmp_path, resnets, monkeypatch, precision, flags, said
):
    info = {"flags": flags, "model name": "a processor"}
    monkeypatch.setattr(environment, "_cpuinfo", lambda name: info.get(name, ""))
    words = ["train", photos, "--model", "resnet8", "--out", tmp_path / "run"]
    words += ["--set", "data.image_size=16"]
    words += ["--set", f"precision={precision}", "--set", "schedule.iterations=1"]
    code, _, err = resnets(*words, "--set", "schedule.epochs=null", "--device", "cpu")
    assert code == 0
    assert said in err
    record = json.loads((tmp_path / "run/run.json").read_text())["environment"]
    assert record["instructions"] == flags.removeprefix("fpu ")


@pytest.mark.parametrize("own", [{}, pytest.param({"GOMP_SPINCOUNT": "7"}, marks=pytest.mark.slow)])
def test_a_run_says_what_it_was_settled_with(photos, tmp_path, own):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "resnets", "train", str(photos), "--model", "resnet8"]
    command += ["--out", str(out), "--set", "data.image_size=16"]
    command += ["--set", "schedule.iterations=1", "--set", "schedule.epochs=null"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    subprocess.run(command, env=environment | own, check=True, capture_output=True)
    record = json.loads((out / "run.json").read_text())["environment"]
    assert record["settings"].get("GOMP_SPINCOUNT") == own.get("GOMP_SPINCOUNT")
    assert record["waiting_adapts"] == (not own and sys.platform == "linux")
    assert record["large_blocks_kept"] == (sys.platform == "linux")
