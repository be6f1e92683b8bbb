"""What a data scientist imports: ``hanse.simulate``, ``hanse.connect``, experiments and results."""

from hanse.experiment.connection import connect
from hanse.experiment.experiment import Analysis, Experiment, Federation, Update
from hanse.experiment.results import Result, load_result
from hanse.experiment.simulation import simulate

__all__ = ["Analysis", "Experiment", "Federation", "Result", "Update", "connect", "load_result", "simulate"]
