"""Whether a folder still has the pictures that a run has begun with, without decoding any."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from resnets.data.identity import (
    CONTENT,
    Manifest,
    changes,
    content_fingerprint,
    digest_files,
    former_fingerprint,
)
from resnets.data.images import printable
from resnets.data.scan import scan
from resnets.formatting import plural


def look_again(
    root: Path, fingerprint: str, before: Mapping[str, str] | None, left_out: Collection[str]
) -> Iterator[str]:
    """Yield what is there, and then in what it differs from what a run has written down.

    ``fingerprint`` is the run's, ``before`` its digests by name where it has any, ``left_out`` the
    names of files that it has skipped. Raises DataError for a folder in no known layout.
    """
    tree = scan(root)
    samples = [s for s in tree.samples if printable(s.relative) not in left_out]
    count = plural(len(samples), "picture")
    if not fingerprint.startswith(CONTENT):
        known = "this run of an earlier version has no digests of their content"
        yield f"{count} of the same names and sizes; {known}"
        sizes = [sample.path.stat().st_size for sample in samples]
        if former_fingerprint(samples, tree.classes, sizes) != fingerprint:
            yield "names, sizes or classes of pictures have changed"
        return
    yield f"{count}, each with the content and class that it had"
    files = digest_files([sample.path for sample in samples])
    if content_fingerprint(samples, tree.classes, files) != fingerprint:
        now = Manifest([printable(sample.relative) for sample in samples], files)
        found = "" if before is None else str(changes(before, now))
        yield found or "pictures or their classes have changed"
