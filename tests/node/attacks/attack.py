"""An algorithm whose node half misbehaves in the way that the ask says. Only for tests."""

import ctypes
import os
import time

import numpy as np

from hanse.kinds import Combine, Contribution, Done
from hanse.large_arrays import empty, in_place_of
from hanse.messages import Record

NEEDS_DATA = False
_held = []


class Attack:
    combines = frozenset({Combine.SUM})

    def init(self, config, previous=None):
        return Record({})

    def ask(self, state):
        return Done("never asks by itself")

    def answer(self, site, ask):
        do = ask.data["do"]
        arrays, data = {}, {}
        if do == "sleep":
            time.sleep(ask.data["seconds"])
        elif do == "sleep in C":
            sum(range(10**13))  # one call that lasts for hours and looks at no signal
        elif do == "progress":
            for _ in range(3):
                site.progress()
                time.sleep(0.55)
        elif do == "allocate at once":
            _held.append(np.ones(int(ask.data["bytes"]), np.uint8))
        elif do == "allocate slowly":
            for _ in range(100):
                _held.append(np.ones(int(ask.data["bytes"]) // 100, np.uint8))
                time.sleep(0.02)
            time.sleep(5)
        elif do == "exit":
            os._exit(3)
        elif do == "segfault":
            ctypes.string_at(0)
        elif do == "raise":
            raise ValueError("could not convert 'Grete Hansen' to a number")
        elif do == "raise system exit":
            raise SystemExit(4)
        elif do == "keep":
            site.memory["kept"] = ask.arrays["x"]
        elif do == "kept":
            arrays["x"] = np.array(site.memory["kept"])
        elif do == "echo":
            arrays["x"] = ask.arrays["x"]
        elif do == "twice":
            arrays["x"] = np.concatenate([ask.arrays["x"]] * 2)
        elif do in ("fill over", "fill over and keep"):
            arrays["x"] = in_place_of(ask.arrays["x"])
            arrays["x"] += ask.data["value"]
            if do != "fill over":
                site.memory["kept"] = arrays["x"]
        elif do in ("fill", "fill and keep", "keep and answer another"):
            x = empty(int(ask.data["size"]), np.dtype(np.float32))
            x.fill(ask.data["value"])
            if do != "fill":
                site.memory["kept"] = x
            arrays["x"] = np.full_like(x, -1) if do == "keep and answer another" else x
        elif do == "long json":
            data["rows"] = ["x" * 100] * int(ask.data["count"])
        elif do == "look around":
            data["environment"] = sorted(os.environ)
            try:
                import socket

                socket.create_connection(("127.0.0.1", ask.data["port"]), 2).close()
                data["network"] = True
            except OSError:
                data["network"] = False
        return Contribution(Record(data, arrays), float(ask.data.get("weight", 1.0)))

    def tell(self, state, gathered):
        return state

    def result(self, state):
        return state

    def metrics(self, state):
        return {}


ALGORITHM = Attack()
