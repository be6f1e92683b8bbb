"""Logistic regression by gradient steps, on a CSV file of x, z and y."""

import csv

import numpy as np


def load(path):
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file)]
    X = np.array([[1.0, float(row["x"]), float(row["z"])] for row in rows])
    return X, np.array([row["y"] == "ill" for row in rows], float)


def loss(w, X, y):
    margin = (2 * y - 1) * (X @ w)
    return float(np.mean(np.logaddexp(0, -margin)))


def step(w, X, y, rate):
    return w - rate * X.T @ (1 / (1 + np.exp(-X @ w)) - y) / len(y)
