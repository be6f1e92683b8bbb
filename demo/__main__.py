"""Four hospitals learn together: a coordinator and four nodes as separate processes, real patients.

It enrols the nodes, takes their owners' consent, trains two models, and compares each with what every
hospital would have learned alone and with what pooled rows would have given. On a terminal it then keeps
serving the page until Ctrl-C; otherwise, or with ``WATCH=0``, it ends by itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hanse
from demo import hospitals
from demo.comparison import Row, compare
from demo.federation import Failed, Federation
from demo.federation import hanse as command
from demo.picture import draw
from hanse.experiment.results import Result

OUT = Path("demo-out")
MODELS = {
    "logistic regression": {"model": "logistic_regression", "rounds": 20},
    "XGBoost": {"model": "xgboost", "rounds": 20, "learning_rate": 0.3, "model_options": {"max_depth": 3}},
}


def say(text: str = "") -> None:
    print(text, flush=True)


def learn(federation: Federation, token: str, name: str) -> Result:
    """Proposes, lets the four owners agree at their nodes, and waits for the result."""
    with hanse.connect(federation.url, token) as connected:
        experiment = connected.experiment(
            target=hospitals.TARGET,
            sample_id_column=hospitals.SAMPLE_ID,
            tags=["heart"],
            seed=2026,
            name=f"Heart disease: {name}",
            purpose="Find narrowed coronary vessels without a catheter.",
            expected_client_ids=sorted(federation.nodes),
            min_available_nodes=4,
            **MODELS[name],
        )
        experiment.propose()
        say(f"\n{name}: run {experiment.run_id}; each owner reads the code and agrees at the own node:")

        for node in federation.nodes:
            home = str(federation.home / node)
            ends = time.monotonic() + 30
            while experiment.run_id not in command("node", "proposals", "--home", home):  # it is on its way
                if time.monotonic() > ends:
                    raise Failed(f"{node} heard of no proposal for 30 seconds")
                time.sleep(0.02)
            said = command("node", "approve", experiment.run_id, "--home", home)
            say(f"  {node:<15} {said.strip().splitlines()[0]}")
        result = experiment.wait()
        result.save(OUT / f"{name.replace(' ', '-').lower()}.safetensors")
        return result


def table(rows: Sequence[Row]) -> str:
    lines = [f"  {'trained on':<26}{'rows':>6}{'AUC':>9}{'accuracy':>10}{'log loss':>10}"]
    for row in rows:
        mark = "→" if row.what == "federated" else " "
        lines.append(f"{mark} {row.what:<26}{row.rows:>6}{row.auc:>9.3f}{row.accuracy:>10.3f}{row.loss:>10.3f}")
    by = {row.what: row for row in rows}
    ours, mean, pooled = by["federated"], by["mean of the single sites"], by["pooled"]
    verdict = "above" if ours.auc > mean.auc else "BELOW"
    lines.append(
        f"  The federation is {abs(ours.auc - mean.auc):.3f} AUC {verdict} the mean single hospital, and "
        f"{abs(ours.auc - pooled.auc):.3f} {'below' if ours.auc < pooled.auc else 'above'} the pooled rows."
    )
    return "\n".join(lines)


def main() -> None:
    begun = time.monotonic()
    watch = sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("WATCH", "1") != "0"
    end_on_signals()
    shutil.rmtree(OUT, ignore_errors=True)
    files = hospitals.write(OUT / "data")
    say("Four hospitals, 920 patients; no row leaves its hospital.")
    with Federation(OUT) as federation:
        say(f"The coordinator runs. Its page: {federation.url}/")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: join(federation, name, files[name]), files))
        for process in federation.nodes.values():
            process.wait_ready()
        token = federation.account("demo-scientist", "data_scientist")
        say(f"Four nodes are enrolled and on line. To look, log in there with this data scientist's token:\n  {token}")
        results = {name: learn(federation, token, name) for name in MODELS}
        tables = {}
        for name, result in results.items():
            tables[name] = compare(files, result.config, result)
            say(f"\n{name}, judged on the {result.metrics['n']:.0f} patients that the hospitals held out:")
            say(table(tables[name]))
        draw(results, tables, OUT / "heart.png")
        say(f"\nPicture: {OUT / 'heart.png'}   models: {OUT}/*.safetensors   ({time.monotonic() - begun:.0f} s)")
        if watch:
            say(f"The page is still served at {federation.url}/ — Ctrl-C ends everything.")
            try:
                signal.pause()
            except KeyboardInterrupt:
                say("\nGood bye.")


def end_on_signals() -> None:
    """Whoever ends this program, or closes its terminal, ends the federation with it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))


def join(federation: Federation, name: str, file: Path) -> None:
    """Enrols one hospital's node, registers its patients, starts it."""
    home = federation.enrol(name)
    command("node", "dataset", "add", str(file), "--name", "heart", "--tags", "heart", "--home", str(home))
    federation.start_node(name, wait=False)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
