"""How metrics are called on pictures, and in what order they stand."""

from __future__ import annotations

FIRST = ("accuracy", "auc", "c_index", "r2", "d2", "rmse", "mae", "loss")  # in this order, wherever they come from
LOWER_IS_BETTER = ("loss", "mse", "rmse", "mae")
NAMES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "auc": "AUC",
    "c_index": "C-index",
    "r2": "R²",
    "d2": "D²",
    "rmse": "RMSE",
    "mae": "MAE",
    "mse": "MSE",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
}


def title(name: str) -> str:
    """How a metric is called on a picture."""
    return NAMES.get(name, name.replace("_", " "))
