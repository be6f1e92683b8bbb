"""What ``simulation.py`` trains, for its own side and for the peers beside it, whose environments have no Hanse."""

from __future__ import annotations

LINEAR = """
import torch

def build(task, options):
    return torch.nn.Linear(len(task.features), task.outputs)
"""
NETWORK = """
from torch import nn

def build(task, options):
    first, second = nn.Conv2d(1, 16, 5), nn.Conv2d(16, 32, 5)
    convolutions = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(convolutions, nn.Linear(512, 169), nn.ReLU(), nn.Linear(169, task.outputs))
"""
SITES, ROWS = 100, 100
KINDS = {"tab": (LINEAR, 30, 2), "lr": (LINEAR, 784, 62), "cnn": (NETWORK, 0, 62)}  # plan, columns, classes
