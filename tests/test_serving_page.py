"""docs/serving.md: a service is started and asked as it is typed."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import coloured
from served import client_of

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


MEASURES = PAGE.partition("\n## Measures\n")[2].partition("\n## ")[0]
TABLE = [line for line in MEASURES.splitlines() if re.match(r"\| `\w+(\{\w+\})?`", line)]
