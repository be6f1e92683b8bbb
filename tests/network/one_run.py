"""One run of a federation whose coordinator listens on an address of this namespace: proposed and waited for.

``python tests/network/one_run.py URL HOME ROUNDS BYTES`` prints its rounds as JSON. A process of its own, as it
has to be started in the namespace of the coordinator.
"""

from __future__ import annotations

import json
import ssl
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench._runs import one_run, probe  # noqa: E402


def main() -> None:
    url, home, rounds, nbytes = sys.argv[1:]
    secured = ssl.create_default_context(cafile=str(Path(home) / "authority" / "authority.crt"))
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=secured), urllib.request.ProxyHandler({}))
    token = (Path(home) / "operator.token").read_text().strip()

    def ask(method: str, path: str, body: Mapping[str, Any] | None = None, /) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(url + path, sent, headers, method=method)
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read())

    made = ask(
        "POST", "/api/accounts", {"name": f"scientist-{len(ask('GET', '/api/accounts'))}", "role": "data_scientist"}
    )
    token = made["token"]
    print(json.dumps(one_run(ask, probe(1, int(rounds), bytes=int(nbytes)), 400)["rounds"]))


if __name__ == "__main__":
    main()
