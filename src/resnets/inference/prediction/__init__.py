"""Pictures in, labelled probabilities out: one by one, or as a table of a folder."""

from resnets.inference.prediction.answers import Prediction, predict
from resnets.inference.prediction.folder_predictions import Predicted, pictures, predict_table
from resnets.inference.prediction.prediction_table import check_table

__all__ = ["Predicted", "Prediction", "check_table", "pictures", "predict", "predict_table"]
