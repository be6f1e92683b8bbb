"""The regression table of a model that was fitted exactly: coefficients, standard errors, tests, intervals.

The table is in the units of the data, as R and statsmodels print it: one row a term, categories against a
reference category (the first), classes against a reference class (the first). It follows from the parameters and the
summed Hessian H at the maximum, both of which a result holds. For a combination l of the parameters θ::

    estimate = l·θ      variance = φ · lᵀ H⁻ l      φ = 1, or for squared loss 2 L / (n - rank)

References: McCullagh and Nelder 1989, "Generalized Linear Models", section 2.5; Searle 1971, "Linear Models",
section 5.4, for combinations that are estimable though H is singular.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.convex import Convex
from hanse.curvature import Curvature
from hanse.errors import DataError, NotFound
from hanse.learning import rows as preparation
from hanse.messages import Array, Record
from hanse.registry import find
from hanse.table import ColumnKind

NOT_ESTIMABLE, NO_FINITE = Convex.not_estimable, Convex.no_finite
_BOUNDLESS = 1e3  # a standard error in the units of the design matrix that a coefficient has which grows without end


@dataclass(frozen=True, slots=True)
class Term:
    """One row of a regression table.

    Args:
        name: of the term: ``intercept``, ``age``, ``sex=m`` (against the reference category).
        outcome: the class that the row is about, against the first one: of two the second.
        coefficient: in the units of the data; for classes a log odds ratio, for counts a log rate ratio,
            for times a log hazard ratio.
        standard_error: None where none is defined; ``note`` says why.
        statistic: coefficient over standard error: t with ``degrees`` of freedom, or z where they are infinite.
        p_value: two-sided.
        low, high: the confidence interval.
        reference: what the term is measured against: a category, or ``""``.
        note: why numbers are missing.
    """

    name: str
    outcome: str
    coefficient: float | None
    standard_error: float | None = None
    statistic: float | None = None
    p_value: float | None = None
    low: float | None = None
    high: float | None = None
    degrees: float = math.inf
    reference: str = ""
    note: str = ""


def of(result: Record, level: float = 0.95) -> list[Term]:
    """The regression table of a run's result.

    Args:
        result: of an exact fit.
        level: of the confidence intervals, in (0, 1).

    Raises:
        NotFound: the model was not fitted exactly, so nobody knows its errors.
        DataError: ``level`` is no such number.
    """
    if "fit" not in result.data or "fit.hessian" not in result.arrays:
        raise NotFound(
            "a regression table needs an exact fit, as linear_regression and logistic_regression make it; this model "
            f"learned by {result.data.get('algorithm', 'nothing')}"
        )
    if not 0 < level < 1:
        raise DataError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    prepared, fit = preparation.unpack(result), result.data["fit"]
    convex = find("models", result.data["model_name"]).build(preparation.task(prepared), result.data["options"]).convex
    coef, free = np.atleast_2d(result.arrays["model.coef"]), np.atleast_1d(result.arrays["model.intercept"])
    theta = np.column_stack([coef, free])
    hessian = np.array(result.arrays["fit.hessian"], np.float64)
    if not convex.intercept:
        fixed = np.arange(1, len(free) + 1) * theta.shape[1] - 1
        hessian[fixed] = hessian[:, fixed] = 0.0
    degrees = fit["rows"] - fit["rank"] if convex.dispersed else math.inf
    scaled = (float(prepared.arrays["target_mean"][0]), float(prepared.arrays["target_scale"][0]))
    why = ""
    if convex.penalty:
        why = (
            "the fit is penalised, which shrinks coefficients by design, so they have no standard errors; without "
            'a penalty they have: model_options {"C": "inf"} of logistic_regression, {"alpha": 0} of others'
        )
    elif not fit["converged"]:
        why = "the fit did not converge"
    elif degrees <= 0:
        why = "there are no more rows than coefficients"
    return table(
        theta,
        prepared.data["columns"],
        prepared.arrays["mean"],
        prepared.arrays["scale"],
        hessian=hessian,
        dispersion=2 * fit["loss"] / degrees if convex.dispersed and degrees > 0 else 1.0,
        degrees=degrees,
        target=scaled if convex.scaled else (0.0, 1.0),
        classes=prepared.data["task"]["classes"],
        level=level,
        intercept=convex.intercept,
        penalised=why,
        separated=bool(fit.get("separated")),
        absorbed=convex.absorbed,
        notes=(convex.not_estimable, convex.no_finite),
    )


def basis(result: Record) -> str:
    """In a sentence, how many rows an exact fit is of, and how many were held out; "" of another model."""
    fit, history = result.data.get("fit") or {}, result.data.get("history") or []
    if "rows" not in fit:
        return ""
    held = next((row["n"] for row in reversed(history) if row.get("n")), 0)
    left = f"; {held:.0f} more were held out to measure it (test_fraction = 0 fits it to all)" if held else ""
    return f"fitted to {fit['rows']:.0f} rows{left}"


def effect(result: Record) -> str:
    """The effect measure that the exponential of a coefficient is: ``odds_ratio`` of classes (of more than two: of one
    class against the reference class), ``rate_ratio`` of counts, ``hazard_ratio`` of times.

    Raises:
        DataError: of neither, since the model's coefficients are no logarithms.
    """
    prepared = preparation.unpack(result)
    model = find("models", result.data["model_name"]).build(preparation.task(prepared), result.data["options"])
    found: str = model.convex.effect
    if not found:
        raise DataError(
            f"the coefficients of {result.data['model_name']} are no logarithms, so there are no ratios; of classes, "
            "counts and times there are (logistic_regression, poisson_regression, cox_regression)"
        )
    return found


def ratios(terms: Sequence[Term], effect: str) -> list[dict[str, Any]]:
    """The same as ratios with their intervals, exp(β): of odds for classes, of rates for counts, of hazards for
    times; of the intercept the odds or the rate itself, where all features are 0 or of their reference.

    Args:
        terms: of a regression table.
        effect: what they are called, as :func:`effect` says.

    >>> ratios([Term("sex=m", "", math.log(2), 0.1, low=math.log(1.5), high=math.log(4), reference="f")], "odds_ratio")
    ... # doctest: +ELLIPSIS
    [{'name': 'sex=m', 'outcome': '', 'odds_ratio': 2.0..., 'low': 1.5, 'high': 4.0, 'p_value': None, ...}]
    """
    return [
        {
            "name": term.name,
            "outcome": term.outcome,
            effect: _exp(term.coefficient),
            "low": _exp(term.low),
            "high": _exp(term.high),
            "p_value": term.p_value,
            "reference": term.reference,
            "note": term.note,
        }
        for term in terms
    ]


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value) if value < 709 else math.inf


def table(
    theta: Array,
    columns: Sequence[Mapping[str, Any]],
    mean: Array,
    scale: Array,
    *,
    hessian: Array,
    dispersion: float = 1.0,
    degrees: float = math.inf,
    target: tuple[float, float] = (0.0, 1.0),
    classes: Sequence[str] = (),
    level: float = 0.95,
    intercept: bool = True,
    penalised: str = "",
    separated: bool = False,
    absorbed: bool = False,
    notes: tuple[str, str] = (NOT_ESTIMABLE, NO_FINITE),
) -> list[Term]:
    """The rows of the table.

    Args:
        theta: (k, f + 1) parameters of the design matrix, intercept last.
        columns: of the preparation, in the order of the design matrix.
        mean, scale: of the numeric columns in order, with which the design matrix was standardised.
        hessian: (k·(f + 1), k·(f + 1)) of the loss at ``theta``, without the penalty.
        dispersion: φ.
        degrees: of freedom of t; infinite for z.
        target: mean and scale of the target that the parameters were fitted on.
        classes: where classes are predicted.
        level: of the confidence intervals, in (0, 1).
        intercept: whether the model has one.
        penalised: why there are no standard errors; empty where there are.
        separated: some coefficients have no finite estimate; those whose errors are boundless are these.
        absorbed: the model has a constant that is no parameter, as a baseline hazard is.
        notes: what is said of a term that is not estimable, and of one without a finite estimate.
    """
    rows, outputs = theta.shape[1], theta.shape[0]
    curvature = Curvature.of(hessian)
    names, references, combinations = _terms(columns, mean, scale, rows, intercept, absorbed, hessian[:rows, :rows])
    found: list[Term] = []
    for outcome in range(1, outputs) if outputs > 1 else (0,):
        wide = np.zeros((len(names), outputs, rows))
        wide[:, outcome] = combinations
        if outputs > 1:
            wide[:, 0] = -combinations
        flat = wide.reshape(len(names), -1)
        estimates = flat @ theta.ravel() * target[1]
        estimates += np.array([target[0] if n == "intercept" else 0.0 for n in names])
        variances, seen = curvature.variance(flat)
        label = str(classes[outcome]) if outputs > 1 else str(classes[1]) if len(classes) == 2 else ""
        for place, name in enumerate(names):
            error = math.sqrt(dispersion * variances[place]) * target[1]
            boundless = not error <= _BOUNDLESS * float(np.linalg.norm(flat[place]))
            if not seen[place]:  # the rounding of a curvature that has nearly vanished may hide it as well
                boundless = bool((np.diag(hessian)[flat[place] != 0] < _BOUNDLESS**-2).any())
            if separated and boundless:
                found.append(Term(name, label, None, reference=references[place], note=notes[1]))
                continue
            found.append(
                _term(
                    name,
                    label,
                    float(estimates[place]),
                    error,
                    bool(seen[place]),
                    degrees,
                    level,
                    references[place],
                    penalised,
                    notes[0],
                )
            )
    return found


def _term(
    name: str,
    outcome: str,
    estimate: float,
    error: float,
    seen: bool,
    degrees: float,
    level: float,
    reference: str,
    penalised: str,
    not_estimable: str,
) -> Term:
    from scipy import special

    if penalised:
        return Term(name, outcome, estimate, reference=reference, note=penalised)
    if not seen:
        return Term(name, outcome, None, reference=reference, note=not_estimable)
    if not error > 0 or not math.isfinite(error):
        return Term(name, outcome, estimate, reference=reference, note="no spread is left to estimate an error from")
    statistic = estimate / error
    if math.isinf(degrees):
        p = 2 * float(special.ndtr(-abs(statistic)))
        width = float(special.ndtri((1 + level) / 2)) * error
    else:
        p = 2 * float(special.stdtr(degrees, -abs(statistic)))
        width = float(special.stdtrit(degrees, (1 + level) / 2)) * error
    return Term(name, outcome, estimate, error, statistic, p, estimate - width, estimate + width, degrees, reference)


def _terms(
    columns: Sequence[Mapping[str, Any]],
    mean: Array,
    scale: Array,
    width: int,
    intercept: bool,
    absorbed: bool,
    hessian: Array,
) -> tuple[list[str], list[str], Array]:
    """Names, references and (m, width) combinations of the parameters of one output."""
    names: list[str] = ["intercept"] if intercept else []
    references: list[str] = [""] * len(names)
    rows: list[Array] = [np.zeros(width)] if intercept else []
    if intercept:
        rows[0][-1] = 1.0
    place = numeric = 0
    for column in columns:
        if column["kind"] == ColumnKind.CATEGORICAL:
            categories = list(column["categories"])
            block = np.arange(place, place + len(categories))
            place += len(categories)
            complete = (intercept or absorbed) and len(block) > 0 and _sums_to_one(hessian, block, absorbed)
            for category, at in list(zip(categories, block, strict=True))[1 if complete else 0 :]:
                row = np.zeros(width)
                row[at] = 1.0
                if complete:
                    row[block[0]] = -1.0
                names.append(f"{column['name']}={category}")
                references.append(str(categories[0]) if complete else "none of the listed")
                rows.append(row)
            if complete and intercept:
                rows[0][block[0]] = 1.0
            continue
        row = np.zeros(width)
        centred = column["kind"] != ColumnKind.BOOLEAN
        row[place] = 1.0 / scale[numeric] if centred else 1.0
        if centred and intercept:
            rows[0][place] = -mean[numeric] / scale[numeric]
        names.append(column["name"])
        references.append("")
        rows.append(row)
        place, numeric = place + 1, numeric + 1
        if column["missing"]:
            row = np.zeros(width)
            row[place] = 1.0
            names.append(f"{column['name']} is missing")
            references.append("")
            rows.append(row)
            place += 1
    return names, references, np.array(rows)


def _sums_to_one(hessian: Array, block: Array, absorbed: bool) -> bool:
    """Whether the columns of the block add to the intercept's, or to what is ``absorbed``, in every row that was
    seen."""
    direction = np.zeros(len(hessian))
    direction[block], direction[-1] = 1.0, -1.0
    whole = np.diag(hessian)[block].max() if absorbed else hessian[-1, -1]
    return bool(direction @ hessian @ direction <= 1e-10 * max(float(whole), np.finfo(float).tiny))
