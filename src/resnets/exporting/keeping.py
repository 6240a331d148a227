"""Exported files, which take their names when they are whole and checked, and not before."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnets.errors import ResourceError
from resnets.exporting.plan import files_of
from resnets.files import writing


@contextmanager
def drafted(out: Path) -> Iterator[Path]:
    """Yield ``out``'s name in a hidden folder beside it; what is there at the end is kept.

    All files of the export move, the model's own last, so that wherever it is, it is whole and its
    certificate is beside it. After an error nothing moves; a folder that a killed process left is
    removed by the next. Raises ResourceError when files cannot be written.
    """
    folder = out.with_name(f".{out.name}.export")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ResourceError(
            f"{out}: cannot be written: {error.strerror or error}", hint="choose another --out"
        ) from None
    try:
        yield folder / out.name
        out.unlink(missing_ok=True)  # lest it have, for a moment, another's weights
        for path in files_of(out):
            draft = folder / path.name
            with draft.open("rb") as source, writing(path, size=draft.stat().st_size) as file:
                shutil.copyfileobj(source, file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
