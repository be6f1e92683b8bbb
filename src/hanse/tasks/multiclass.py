"""More than two classes: a probability of each; log loss, accuracy, and AUC of each class against the rest."""

from __future__ import annotations

from hanse.tasks._classes import Classes

TASK = Classes("multiclass", two=False)
