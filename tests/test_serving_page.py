"""docs/serving.md: a service is started and asked as it is typed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from conftest import coloured
from resnets.weights.shipped import shipped
from served import client_of

pytestmark = pytest.mark.pages
PAGE = (Path(__file__).parents[1] / "docs/serving.md").read_text("utf-8")


def blocks(section: str) -> list[tuple[str, str]]:
    """The language and text of each block of code in a section."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks with curl")
def test_start_and_ask(tmp_path):
    coloured(2, 0, 50).save(tmp_path / "ship.png")
    (tmp_path / "notes.txt").write_text("no image")
    _, start = dict(blocks("Start"))["sh"].splitlines()
    command = [sys.executable, "-m", *shlex.split(start), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            at = client_of(line.split()[-1])
            assert line.replace(str(at.port), "8000").strip() in PAGE
            said = []
            for language, text in blocks("Ask"):
                text = text.replace("localhost:8000", f"localhost:{at.port}")
                if language == "sh":
                    words = [*shlex.split(text), "--silent", "--show-error"]
                    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
                    assert run.returncode == 0, run.stderr
                    said.append(json.loads(run.stdout))
                elif language == "json":
                    shown, found = json.loads(text), said[-1]
                    for each in (shown, found):  # other processors round otherwise
                        for row in each["predictions"]:
                            row["probability"] = round(row["probability"], 4)
                    assert found == shown
                else:
                    run = subprocess.run(
                        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True
                    )
                    assert run.stdout == "ship\n", run.stderr
            assert [list(each) for each in said[-1]["predictions"]] == [
                ["path", "predictions"],
                ["path", "error"],
            ]
            for language, text in blocks("Open Inference Protocol"):
                text = text.replace("localhost:8000", f"localhost:{at.port}")
                words = [sys.executable, "-c", text]
                if language == "sh":
                    words = [*shlex.split(text), "--silent", "--show-error", "--fail"]
                run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
                assert run.returncode == 0, run.stderr
            assert run.stdout == "ship\n"
            assert b"\x04\0\0\0ship" in (tmp_path / "answer").read_bytes()
            for address in re.findall(r"`GET (/\S+)`", PAGE):
                assert at.get(address).status == 200, address
            measured = at.get("/metrics").body.decode()
            for name in re.findall(r"`(\w+)(?:\{\w+\})?`", "".join(TABLE)):
                assert f"resnets_{name}" in measured, name
        finally:
            process.terminate()
        assert process.wait(60) == 0


@pytest.fixture
def launched(tmp_path):
    """Run a script in bash; return the words of each `resnets` that it starts."""
    (tmp_path / "bin").mkdir()
    commands = {
        "resnets": 'printf "%s\\n" "$(printf "%q " "$@")" >> "$CALLS"',
        "srun": 'exec "$@"',
        "parallel": 'shift 4; while read -r n; do "${@//\\{\\}/$n}"; done',  # its own two options
    }
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    calls = tmp_path / "calls.txt"

    def run(script: str, **variables: int) -> list[list[str]]:
        calls.write_text("")
        environment = {name: str(value) for name, value in variables.items()}
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment |= {**os.environ, **environment, "PATH": path, "CALLS": str(calls)}
        subprocess.run(["bash", "-eu", "-c", script], check=True, env=environment)
        return [shlex.split(line) for line in calls.read_text().splitlines()]

    return run


def test_more_than_one_machine(tmp_path, monkeypatch, launched, resnets):
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        path = Path(f"photos/{number % 2}/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        coloured(number % 3, number, 6).save(path)
    found = [(kind, text.replace("16", "3")) for kind, text in blocks("More than one machine")]
    scripts = [text for kind, text in found if kind == "bash"]
    ((_, one), *_), (slurm, parallel) = found, scripts
    assert "#SBATCH --array=1-3\n" in slurm
    by_slurm = [call for n in range(1, 4) for call in launched(slurm, SLURM_ARRAY_TASK_ID=n)]
    assert launched(parallel) == by_slurm
    job = yaml.safe_load(dict(found)["yaml"])["spec"]
    assert job["completions"] == 3
    (container,) = job["template"]["spec"]["containers"]
    script = " ".join(container["args"])
    assert by_slurm == [n for i in range(3) for n in launched(script, JOB_COMPLETION_INDEX=i)]
    shown, gathered = one.splitlines()
    assert by_slurm[2] == shlex.split(shown)[1:]
    for words in by_slurm:
        words.remove("runs/birds")  # for the model that comes with the package
    for words in by_slurm[:2]:
        assert resnets(*words)[0] == 0
    gather = ["gather", *(f"parts/part-{n}.parquet" for n in (1, 2)), "--out", "all.parquet"]
    code, _, err = resnets(*gather)
    hint = shlex.split(err.splitlines()[-1].removeprefix(" hint: ").strip("`"))
    assert (code, hint) == (3, ["resnets", *by_slurm[2]])
    shape = re.sub(r"\d[\d,]* images: .*\)", "", err.splitlines()[0])
    assert shape in re.sub(r"\d[\d,]* images: .*\)", "", found[1][1])
    assert resnets(*hint[1:])[0] == 0
    assert fnmatch("parts/part-3.parquet", shlex.split(gathered)[2])
    assert resnets(*gather, "parts/part-3.parquet")[0] == 0
    assert resnets("predict", "photos/", "--out", "one.parquet")[0] == 0
    assert Path("all.parquet").read_bytes() == Path("one.parquet").read_bytes()
    python = dict(found)["python"].replace("runs/birds", str(shipped("resnet20", "cifar10")))
    exec(python, {})
    assert resnets("predict", "photos/", "--out", "one.csv")[0] == 0
    assert Path("both.csv").read_bytes() == Path("one.csv").read_bytes()


MEASURES = PAGE.partition("\n## Measures\n")[2].partition("\n## ")[0]
TABLE = [line for line in MEASURES.splitlines() if re.match(r"\| `\w+(\{\w+\})?`", line)]
