"""From run folders to one page that can be read, printed and sent."""

from resnets.report.page import write_report
from resnets.run_folder.reading import RunRecord, read_run

__all__ = ["RunRecord", "read_run", "write_report"]
