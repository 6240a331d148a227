"""Pictures in, labelled probabilities out: one by one, or as a table of a folder."""

from resnets.prediction.answers import Prediction, predict
from resnets.prediction.folder import Predicted, pictures, predict_table
from resnets.prediction.table import check_table

__all__ = ["Predicted", "Prediction", "check_table", "pictures", "predict", "predict_table"]
