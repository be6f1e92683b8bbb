"""TensorBoard: a file of events that ``tensorboard --logdir`` shows. Needs the package ``tensorboard`` alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanse.errors import ConfigError
from hanse.experiment.callbacks import Begun, settings_of
from hanse.experiment.results import Result


class TensorBoard:
    """Writes a run's metrics by round.

    Args:
        folder: of all runs; each has a folder in it, named by its id.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise ConfigError("TensorBoard needs its package: pip install 'hanse[tensorboard]'") from None
        self._folder, self._make = Path(folder), EventFileWriter
        self._writer: Any = None

    def began(self, run: Begun) -> None:
        """Opens the file, and writes the settings as text."""
        self._writer = self._make(str(self._folder / run.run_id))
        text = json.dumps(settings_of(run), indent=2, ensure_ascii=False)
        self._write(0, [("hanse/run", f"{run.title}, run {run.run_id}"), ("hanse/settings", f"```\n{text}\n```")])

    def measured(self, round: int, metrics: Mapping[str, float]) -> None:
        """A scalar of each metric at the round."""
        self._write(round, list(metrics.items()))

    def ended(self, state: str, reason: str, result: Result | None) -> None:
        """Says how it ended, and closes the file."""
        self._write(0, [("hanse/ended", f"{state}. {reason}".strip())])
        self._writer.close()

    def _write(self, step: int, values: list[tuple[str, float | str]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        made = []
        for name, value in values:
            if not isinstance(value, str):
                made.append(Summary.Value(tag=name, simple_value=value))
                continue
            about = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
            one = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
            tensor = TensorProto(dtype=DT_STRING, string_val=[value.encode()], tensor_shape=one)
            made.append(Summary.Value(tag=name, metadata=about, tensor=tensor))
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=made)))
