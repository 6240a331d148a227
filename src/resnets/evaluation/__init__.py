"""Any model on any labelled images: classes by name, what is missing said and counted."""

from resnets.evaluation.assess import evaluate
from resnets.evaluation.assessment import Assessment

__all__ = ["Assessment", "evaluate"]
