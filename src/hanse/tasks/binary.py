"""Two classes: the probability of the second; log loss, accuracy and AUC."""

from __future__ import annotations

from hanse.tasks._classes import Classes

TASK = Classes("binary", two=True)
