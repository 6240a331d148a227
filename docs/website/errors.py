"""A page for each kind of error: what it means, messages as they were printed, and what to do.

The messages are in errors.json, which `python -m website.errors` in docs/ writes by making each
mistake; tests/test_site_pages.py makes them again.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from website.python_source import public
from website.tables import table

RECORDED = Path(__file__).with_name("errors.json")
SOURCE = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Kind:
    """An error as its page has it: an exception of ours, or what comes of none."""

    name: str
    code: str  # the exit code, or several
    title: str
    what_to_do: str
    cases: tuple[str, ...] = ()  # commands, or lines of Python that begin with "import resnets"


KINDS = (
    Kind(
        "UsageError",
        "2",
        "what was asked for cannot be meant",
        "Nothing was read, computed or written. The hint has the nearest name, or what may be said "
        "instead, and can be typed as it stands. `resnets COMMAND --help` lists the options, "
        "`resnets train --settings` what `--set` takes, `resnets models` and `resnets recipes` the "
        "names. In Python a UsageError is a `ValueError`, too.",
        (
            "resnets show resnet51",
            "resnets show resnet50 --jsn",
            "resnets train digits --batch-size 32",
            "resnets train digits --set optimzer.lr=0.1",
            "resnets train digits --set optimizer.lr=fast",
            "resnets train digits --resume run --workers 4",
        ),
    ),
    Kind(
        "SpecError",
        "2",
        "a network that cannot be built",
        "The fields of a spec contradict each other. [Spec](../python/models.md#Spec) says what "
        "each may be. It is a UsageError, and a `ValueError`.",
        (
            'import resnets; resnets.create_model("resnet50", output_stride=4)',
            'import resnets; resnets.create_model("resnet50", depths=(3, 4, 6), widths=(64, 128))',
            'import resnets; resnets.create_model("resnet50", stem="9x9")',
        ),
    ),
    Kind(
        "DataError",
        "3",
        "a data set, folder or image that is missing, damaged or inconsistent",
        "`resnets data check DATA` reads all of it and lists what is wrong, file by file. Broken "
        "images are left out with `--set data.broken=skip`, up to the share that "
        "`data.broken_limit` allows. `data check` itself ends with 3 where a result could not be "
        "trusted, such as the same image in training and test.",
        (
            "resnets train nowhere",
            "resnets train one",
            "resnets train photos --model resnet8",
            "resnets data check photos",
        ),
    ),
    Kind(
        "CheckpointError",
        "4",
        "weights or a state that are missing, damaged, unsafe or do not fit",
        "`resnets inspect FILE` says what is in a file, and runs nothing of it. Where a file holds "
        "several networks `--container` names one, where its names are unclear `--dialect` does. "
        "[Checkpoints](../../checkpoints.md) says what is read and why something is refused.",
        (
            "resnets inspect damaged.pth",
            "resnets inspect notes.txt",
            "resnets predict photos/cat/0.png --model runs/none",
            'import resnets; resnets.create_model("resnet56", weights="one.safetensors")',
        ),
    ),
    Kind(
        "ExportError",
        "5",
        "an exported file that does not compute what its network does",
        "The file is not kept, and earlier ones stay as they are. In 8 bits another "
        "`--max-loss` may be what you want; otherwise another `--size`, or another `--to`. "
        "[Exporting](../../export.md#what-is-checked) says how it is compared.",
        (
            'import resnets; model = resnets.create_model("resnet8"); '
            "model.fc.bias.data.fill_(float('inf')); resnets.export(model, 'net.pt2', to='torch')",
        ),
    ),
    Kind(
        "NonFiniteError",
        "6",
        "a loss or gradient that is NaN or infinite",
        "It is found before the optimizer's step, so that the last state is sound. A lower rate, "
        "a longer warm-up or `--set optimizer.clip=1` usually help; `resnets train DATA --find-lr` "
        "looks for the rate. The run folder has `nonfinite.json`, which says what became infinite "
        "first.",
        (
            "resnets train digits --model resnet8 --set batch_size=16 --set schedule.iterations=40 "
            "--set optimizer.lr=100 --set optimizer.clip=null --set optimizer.weight_decay=0.9",
        ),
    ),
    Kind(
        "ResourceError",
        "7",
        "no space, no permission, no memory, or a package that is not installed",
        "The message names the file, the device or the package. Out of memory: a smaller "
        "`batch_size` or `data.image_size`; [Memory](../../memory.md) says what a step takes "
        'before it runs. Packages come with extras: `pip install "resnets[onnx]"`.',
        (
            "resnets data get cifar10 --root /proc",
            "resnets export one.safetensors --to torch --out /proc/model.pt2",
        ),
    ),
    Kind(
        "HeldError",
        "7",
        "a file or folder that another process is using",
        "Two commands were given one `--out`, or a run is resumed that still goes on. The message "
        "says which process it is and since when, where that is known: wait for it, stop it, or "
        "give another `--out`. It is a ResourceError.",
    ),
    Kind(
        "Stopped",
        "75",
        "a run that was asked to stop, and can be resumed",
        "No error: the state is saved, and the hint is the command that resumes it, on a CPU to "
        "the same bits. The code is 75 (`EX_TEMPFAIL`) for SIGTERM and SIGUSR1, by which "
        "schedulers know that the job may be queued again, and 130 for Ctrl-C. "
        "[Stopped, killed, resumed](../../training.md#stopped-killed-resumed) has the rest.",
        ("resnets train digits --model resnet8 --set schedule.epochs=200 --out run",),
    ),
    Kind(
        "ResnetsError",
        "1",
        "the base of all of these; by itself, and for anything unexpected, a bug",
        "`except resnets.ResnetsError` catches all of the above in Python: `message`, `hint` and "
        "`exit_code` are its attributes. A command that ends with 1 and says `unexpected` has met "
        "a mistake of ours: `--debug` shows where, and a report with that text is welcome.",
        (
            "import resnets\n"
            "try:\n"
            '    resnets.get_spec("resnet51")\n'
            "except resnets.ResnetsError as error:\n"
            '    print(f"{error.message}\\n{error.hint}\\n{error.exit_code}")',
        ),
    ),
)
_OTHERS = (("0", "done"), ("130", "Ctrl-C; a run can be resumed"))


def pages() -> dict[str, str]:
    """Return the pages, by their paths. Raises LookupError for an exception that has no page."""
    said = json.loads(RECORDED.read_text(encoding="utf-8"))
    classes = {each.name for each in public("errors") if each.bases}
    missing = classes ^ {kind.name for kind in KINDS}
    if missing:
        raise LookupError(f"errors.py and KINDS of website/errors.py differ by {missing}")
    found = {f"reference/errors/{kind.name}.md": "\n".join(_page(kind, said)) for kind in KINDS}
    return found | {"reference/errors/index.md": _index()}


def _index() -> str:
    rows = [(kind.code, f"[`{kind.name}`]({kind.name}.md)", kind.title) for kind in KINDS]
    rows += [(code, "", words) for code, words in _OTHERS]
    return "\n".join(
        [
            "# Errors",
            "",
            "What goes wrong ends in one line on standard error: what it was and where; then a "
            "hint, which works as typed. The exit code says which kind it was. Nothing is left "
            "half-written.",
            "",
            table(("exit code", "exception", ""), sorted(rows, key=lambda row: int(row[0]))),
            "",
            "A service answers with a status and the same words as JSON: "
            "[refusals](../../serving.md#refusals).",
            "",
        ]
    )


def _page(kind: Kind, said: dict[str, list[str]]) -> Iterator[str]:
    yield f"# {kind.name}\n"
    yield f"Exit code {kind.code}: {kind.title}.\n"
    yield f"## What to do\n\n{kind.what_to_do}\n"
    yield "## As it is said\n"
    for case in kind.cases:
        if case.startswith("import"):
            lines = case.replace("; ", "\n")
            yield f"```python\n{lines}\n```\n\n```text\n" + "\n".join(said[case]) + "\n```\n"
        else:
            yield f"```console\n$ {case}\n" + "\n".join(said[case]) + "\n```\n"


_MATERIAL = """
from PIL import Image
from pathlib import Path
import resnets
for name in ("photos/cat", "photos/dog", "one/cat"):
    Path(name).mkdir(parents=True)
    for i in range(6):
        color = (40 * i + (name == "photos/dog"), 20, 90)
        Image.new("RGB", (48, 48), color).save(f"{name}/{i}.png")
broken = Path("photos/dog/5.png")
broken.write_bytes(broken.read_bytes()[:60])
Path("damaged.pth").write_bytes(b"PK\\x03\\x04" + b"x" * 40)
Path("notes.txt").write_text("notes")
resnets.save_weights(resnets.create_model("resnet8"), "one.safetensors")
"""


def record() -> dict[str, list[str]]:
    """Make every mistake, and return what is said, by what was typed."""
    with TemporaryDirectory() as folder:
        _run([sys.executable, "-c", _MATERIAL], folder)
        return {case: _said(kind, case, folder) for kind in KINDS for case in kind.cases}


def _said(kind: Kind, case: str, folder: str) -> list[str]:
    """Return the lines of an error, without what was said before it."""
    if case.startswith("import"):
        done = _run([sys.executable, "-c", case], folder)
        if done.returncode == 0:
            return done.stdout.splitlines()
        raised = re.search(r"^resnets\.[\w.]+\.(\w+: .*)", done.stderr, re.DOTALL | re.MULTILINE)
        if not raised:
            raise SystemExit(f"{case}: {done.stderr}")
        return raised[1].splitlines()
    words = [sys.executable, "-m", "resnets", *case.split()[1:]]
    done = _stopped(words, folder) if kind.name == "Stopped" else _run(words, folder)
    if done.returncode != int(kind.code):
        raise SystemExit(f"{case}: exit code {done.returncode}, not {kind.code}: {done.stderr}")
    lines = done.stderr.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("error")), None)
    if first is None and kind.name == "Stopped":
        first = next(i for i, line in enumerate(lines) if line.startswith("stopped"))
    return lines[first:] if first is not None else done.stdout.splitlines()


def _environment() -> dict[str, str]:
    """Return a system's variables for messages that are the same on any machine."""
    gone = {"RESNETS_DATA", "COLUMNS"}
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    return kept | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


def _run(words: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, env=_environment(), capture_output=True, text=True)


def _stopped(words: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    """Run a command, and ask it to stop once it has trained for an epoch."""
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch"):
            break
    process.terminate()
    out, errors = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, out, errors)


def without_numbers(lines: list[str]) -> list[str]:
    """Return lines as they are on any machine, whose steps and times differ."""
    return [re.sub(r"\d+(\.\d+)?", "0", line) for line in lines]


if __name__ == "__main__":
    text = json.dumps(record(), indent=1, ensure_ascii=False)
    RECORDED.write_text(f"{text}\n", encoding="utf-8")
