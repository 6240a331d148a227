"""From run folders to one page that can be read, printed and sent."""

from importlib import import_module
from typing import Any

# Imported when first needed: a page that draws nothing, such as the service's, does without
# matplotlib.
_HOME = {
    "RunRecord": "resnets.run_folder.reading",
    "read_run": "resnets.run_folder.reading",
    "write_report": "resnets.report.page",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
