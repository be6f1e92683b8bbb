"""What compressed updates cost and give, on the demo's data: bytes of a round beside accuracy.

Four real nodes, one for each hospital of the demo, average a multi-layer perceptron over gRPC; each kind of compression
is a run of its own with the same seed. ``sent``: bytes of the arrays of a round's answers, ``on_the_line``: bytes that
they took there (as the coordinator counted them), ``share`` of the one in the other. ``accuracy`` and ``loss`` (log
loss) are of the last model, on the patients that the hospitals held out. ``left_out``: ‖e‖₂ that the last round left
out, at most of a node, and ``left_out_share`` in parts of what that node sent.

    python bench/compression.py [--rounds 30] [--hidden 256] [--seeds 3] [--json]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from _report import Report
from _runs import one_run

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo import hospitals  # noqa: E402
from demo.federation import Federation, hanse  # noqa: E402

KINDS: dict[str, list[dict[str, Any]]] = {
    "nothing lossy": [],
    "bfloat16": [{"name": "bfloat16"}],
    "eight_bits": [{"name": "eight_bits"}],
    "top_k 5 %": [{"name": "top_k", "share": 0.05}],
    "top_k 1 %": [{"name": "top_k", "share": 0.01}],
    "top_k 1 %, no feedback": [{"name": "top_k", "share": 0.01, "error_feedback": False}],
}


def proposed(links: list[dict[str, Any]], rounds: int, hidden: int, seed: int) -> dict[str, Any]:
    """Settings of a run."""
    return {
        "model_name": "mlp_classifier",
        "federated_strategy": "fedavg",
        "target_column": hospitals.TARGET,
        "sample_id_column": hospitals.SAMPLE_ID,
        "tags": ["heart"],
        "num_rounds": rounds,
        "model_options": {"hidden_layer_sizes": [hidden, hidden]},
        "transforms": links,
        "seed": seed,
        "min_available_nodes": len(hospitals.NAMES),
        "min_completed": len(hospitals.NAMES),
    }


def measured(done: dict[str, Any]) -> dict[str, float]:
    """What a run cost and gave."""
    trained = [step for step in done["rounds"] if step["round"] is not None]
    lines = [[p.get("line", {}) for p in step["participants"].values()] for step in trained]
    sent = [step["bytes_up"] for step in trained]
    on_the_line = [
        sum(line.get("up_bytes", step["bytes_up"] / len(found)) for line in found)
        for step, found in zip(trained, lines, strict=True)
    ]
    last = next(step["metrics"] for step in reversed(done["rounds"]) if "accuracy" in step["metrics"])
    end = trained[-1]["metrics"]
    return {
        "sent": statistics.mean(sent),
        "on_the_line": statistics.mean(on_the_line),
        "accuracy": last["accuracy"],
        "loss": last["loss"],
        "left_out": end.get("left_out", 0.0),
        "left_out_share": end.get("left_out_share", 0.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--hidden", type=int, default=256, help="units of each of the two hidden layers")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind, whose means are told")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    columns = ["what", "sent", "on_the_line", "share", "accuracy", "loss", "left_out", "left_out_share"]
    report = Report(columns, given.json)
    with tempfile.TemporaryDirectory(prefix="hanse-compression-") as folder:
        files = hospitals.write(Path(folder) / "data")
        with Federation(Path(folder) / "federation") as federation:
            for name, file in files.items():
                allowed = {"standing": "accept-allowed", "line.compression": "all"}
                home = federation.enrol(name, **allowed)
                hanse("node", "dataset", "add", str(file), "--name", "heart", "--tags", "heart", "--home", str(home))
                federation.start_node(name)
            ask = partial(federation.rest, token=federation.account("scientist", "data_scientist"))
            for what, links in KINDS.items():
                found = [
                    measured(one_run(ask, proposed(links, given.rounds, given.hidden, seed), 600))
                    for seed in range(given.seeds)
                ]
                means = {name: statistics.mean(one[name] for one in found) for name in found[0]}
                report.add({"what": what, **means, "share": means["on_the_line"] / means["sent"]})


if __name__ == "__main__":
    main()
