"""``hanse node models`` and ``predict``: the models of a node's own, and their use on its data sets."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import click

from hanse.node.command import home_option, joined
from hanse.terminal import table


@click.command()
@home_option
@click.option("--remove", metavar="RUN", help="Delete the model that this run left here.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def models(home: Path, remove: str | None, as_json: bool) -> None:
    """List the models that runs left here: of ditto, fedper and fedrep each node has its own, which never leaves it."""
    from hanse.node.own_models import OwnModels

    kept = OwnModels(joined(home))
    if remove is not None:
        kept.remove(remove)
        click.echo(f"the model of run {remove} is deleted")
        return
    rows = [(one.run, one.title, one.record.data["round"], one.record.nbytes) for one in kept.list()]
    damaged = kept.damaged()
    if as_json:
        whole = [dict(zip(("run", "model", "round", "bytes"), row, strict=True)) for row in rows]
        click.echo(json.dumps([*whole, *({"run": run, "damaged": why} for run, why in damaged.items())]))
        return
    for run, why in damaged.items():
        click.echo(f"! {why} (hanse node models --remove {run})", err=True)
    shown = [tuple(map(str, row)) for row in rows]
    click.echo(table(("run", "model", "round", "bytes"), shown) if shown else "no run has left a model here")


@click.command()
@home_option
@click.argument("run")
@click.option("--dataset", required=True, help="Of this node: predict for its rows.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A CSV file.")
def predict(home: Path, run: str, dataset: str, output: Path) -> None:
    """Predict with the model that RUN left at this node: a line for each row of a data set of this node."""
    from hanse.node.catalogue import Catalogue
    from hanse.node.own_models import OwnModels
    from hanse.prediction import Predictor, Unfamiliar
    from hanse.task import PROBABILITIES
    from hanse.whole_files import write_whole

    model = OwnModels(joined(home)).get(run)
    predictor, rows = Predictor(model.record), Catalogue(home).load(dataset)
    named = [f"predicted {model.record.data['prepared']['target']}"]
    with warnings.catch_warnings(record=True) as odd:
        warnings.simplefilter("always", Unfamiliar)
        columns = [predictor.predict(rows).tolist()]
        if predictor.task.predicts == PROBABILITIES:
            named += [f"probability of {label}" for label in predictor.task.classes]
            columns += predictor.predict_proba(rows).T.tolist()
    for said in dict.fromkeys(str(warning.message) for warning in odd):
        click.echo(f"! {said}", err=True)
    import csv

    text = io.StringIO(newline="")
    write = csv.writer(text)
    write.writerow(["row", *named])
    write.writerows([place, *row] for place, row in enumerate(zip(*columns, strict=True), 1))
    write_whole(output, text.getvalue())  # patients' predictions: the owner's alone, also where a file is there
    click.echo(f"{output}: {rows.rows} rows predicted by {model.title}, run {model.run}")
