"""Any model on any labelled pictures: classes by name, what is missing said and counted."""

from resnets.assessment.assess import evaluate
from resnets.assessment.result import Assessment

__all__ = ["Assessment", "evaluate"]
