"""Exported files, which take their names when they are whole and checked, and not before."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnets.errors import CheckpointError, unwritable
from resnets.exporting.plan import certificate_of, draft_of, files_of
from resnets.files import alone, followed, sweep, writing
from resnets.formatting import plural
from resnets.machine.downloads import digest_of
from resnets.readers.documents import read_json
from resnets.weights.verify import Verdict


@contextmanager
def drafted(out: Path) -> Iterator[Path]:
    """Yield ``out``'s name in a hidden folder beside it; what is there at the end is kept.

    All files of the export are written to where they belong, under hidden names, before the first
    takes its own; the model's does so last, so that wherever it is, it is whole and its certificate
    is beside it. After an error earlier files are as they were. What a killed process left is
    removed by the next, or kept where nothing was missing but names. A symbolic link is written
    through, if `followed` says so. Raises ResourceError when files cannot be written, and while
    another process exports to ``out``.
    """
    folder = draft_of(out)
    with alone(out):
        _finish(out)
        shutil.rmtree(folder, ignore_errors=True)
        with _reporting(out):
            folder.mkdir()
        try:
            yield folder / out.name
            for path in files_of(out):
                checked = folder / path.name
                size = checked.stat().st_size
                with checked.open("rb") as source, writing(_whole(path), size=size) as file:
                    shutil.copyfileobj(source, file)
        finally:
            _finish(out)
            shutil.rmtree(folder, ignore_errors=True)


def verify_export(path: Path) -> Verdict | None:
    """Check the files of an export by the certificate beside them; None where there is none."""
    certificate = certificate_of(path)
    if not certificate.is_file():
        return None
    own = files_of(path)[1:]
    found = {each: digest_of(each) for each in own if each.is_file()}
    try:
        stated = read_json(certificate)["files"]
        wrong = tuple(each.name for each in own if found.get(each) != stated[each.name])
    except (CheckpointError, LookupError, TypeError):
        return Verdict(path, False, f"{certificate} is damaged or of another file")
    what = ", ".join(wrong)
    sentence = (
        f"damaged: {what} does not have the SHA-256 of its certificate"
        if wrong
        else f"whole: {plural(len(own), 'file')}, as the certificate of its export says"
    )
    return Verdict(path, not wrong, sentence, damaged=wrong, sha256=found.get(path, ""))


def _finish(out: Path) -> None:
    """Let an export's whole files take their names, or remove them where some are missing."""
    *others, model = files_of(out)
    with _reporting(out):
        if not _is_file(_whole(model)):  # which is the last to be written, and the last to move
            for path in map(_whole, files_of(out)):
                path.unlink(missing_ok=True)
                sweep(path)
            return
        followed(model).unlink(missing_ok=True)  # lest it have, for a moment, another's weights
        for path in (*others, model):
            if _is_file(_whole(path)):  # or it moved before a stop
                _whole(path).replace(followed(path))


def _is_file(path: Path) -> bool:
    """Whether there is a file of this name, and no link, which no export has made."""
    return path.is_file() and not path.is_symlink()


def _whole(path: Path) -> Path:
    """Return the hidden name, on the same disk, of what is written and has to be renamed only."""
    target = followed(path)
    return target.with_name(f".{target.name}.whole")


@contextmanager
def _reporting(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(out, error, "choose another --out") from None
