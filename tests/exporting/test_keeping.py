"""Whatever happens and when: a model under its name is whole, with its own certificate."""

import os
import signal
import sys
import warnings
from pathlib import Path

import pytest

from resnets.errors import UsageError
from resnets.exporting.keeping import drafted
from resnets.exporting.plan import certificate_of, files_of

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


def write(out: Path, generation: str) -> None:
    """Keep an export whose files all hold the name of their generation."""
    with drafted(out) as draft:
        for path in files_of(draft):
            path.write_text(generation)


def killed_at(moment: int, out: Path, generation: str) -> bool:
    """Export in a process of its own that is killed there; return whether it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the fork computes nothing
        process = os.fork()
    if not process:
        count = 0

        def watch(event: str, arguments: tuple) -> None:
            nonlocal count
            if event in EVENTS and str(out.parent) in str(arguments[0]):
                count += 1
                if count > moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            write(out, generation)
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def is_sound(out: Path) -> bool:
    """Whether there is no model, or a whole one: all its files of one generation."""
    return not out.exists() or len({path.read_text() for path in files_of(out)}) == 1


@pytest.mark.parametrize("name", ["net.onnx", "net.xml"])
@pytest.mark.parametrize("replaced", [False, True])
def test_killed_at_every_moment(tmp_path, name, replaced):
    moment, killed, out = 0, True, tmp_path / name
    while killed:
        if replaced:
            write(out, "old")
        else:
            for path in files_of(out):
                path.unlink(missing_ok=True)
        killed = killed_at(moment, out, "new")
        assert is_sound(out), moment
        moment += 1
    assert moment > 8
    assert {path.read_text() for path in files_of(out)} == {"new"}
    assert set(tmp_path.iterdir()) == set(files_of(out))  # what the killed left is gone


@pytest.mark.parametrize("error", [UsageError("no"), KeyboardInterrupt()])
def test_an_error_keeps_nothing(tmp_path, error):
    out = tmp_path / "net.onnx"

    def fail() -> None:
        with drafted(out) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_certificate_is_called_after_its_file():
    names = {certificate_of(Path(name)).name for name in ("net.onnx", "net.xml", "net.pt2")}
    assert names == {f"net.{end}.certificate.json" for end in ("onnx", "xml", "pt2")}
    assert [path.name for path in files_of(Path("a/net.xml"))] == [
        "net.xml.certificate.json",
        "net.bin",
        "net.xml",
    ]
