#!/usr/bin/env bash
# Since Flower 1.38 a Message cannot be made outside Flower's own processes, so a strategy does not run over a Grid of
# one's own, and a ClientApp cannot be called in a test as before.
#
# Versions: flwr 1.37.0 and 1.42.0, numpy 2.4.6, Python 3.11.
# Behaviour: Message and the abstract class Grid are public (flwr.app, flwr.serverapp). Up to 1.37.0 the constructor of
#   Message sets run and sender to 0 where nobody has set them. From 1.38.0 on it reads them from a private object that
#   flwr-serverapp and flwr-clientapp fill, and raises RuntimeError where they have not.
# Seen: FedAvg.configure_train, with a subclass of Grid that names two nodes: 1.37.0 gives two messages, 1.42.0 raises
#   "TaskIdentity.run_id is not set.", as does Message(RecordDict(), 5, "train") by itself.
# Fails if that changes.
set -euo pipefail
cd "$(mktemp -d)"
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
for release in 1.37.0 1.42.0; do
  python3 -m venv "$release" >/dev/null
  "$release/bin/python" -m pip install --quiet --disable-pip-version-check "flwr==$release" numpy==2.4.6
  "$release/bin/python" -W ignore - <<'PYTHON'
import logging
from importlib.metadata import version

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

logging.disable()
Own = type("Own", (Grid,), {name: lambda self, *_, **__: None for name in Grid.__abstractmethods__})
Own.get_node_ids = lambda self: [1, 2]
strategy = FedAvg(min_train_nodes=2, min_available_nodes=2)
arrays = ArrayRecord([np.zeros(3)])


def tried(what):
    try:
        return what()
    except RuntimeError as error:
        return str(error)


alone = tried(lambda: Message(RecordDict(), 5, "train").metadata.run_id)
asked = tried(lambda: len(list(strategy.configure_train(1, arrays, ConfigRecord(), Own()))))
print(f"flwr {version('flwr')}: run of a message made alone: {alone}; messages of a strategy over a Grid of one's own: {asked}")
unset = "TaskIdentity.run_id is not set."
assert (alone, asked) == ((0, 2) if version("flwr") == "1.37.0" else (unset, unset))
PYTHON
done
