"""A federation behind a coordinator, over its REST interface (docs/rest.md).

Waiting is done on the coordinator's stream of events: nothing asks again and again.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hanse import alignment, bundle, features, proxies, releases
from hanse.config import RunConfig
from hanse.errors import (
    ConfigError,
    HanseError,
    NotAuthenticated,
    NotFound,
    RunFailed,
    Tampered,
    Unreachable,
    WireError,
    from_code,
)
from hanse.experiment import credentials, records
from hanse.experiment.results import Result
from hanse.experiment.seam import ENDED, Happening
from hanse.messages import Json, Record, digest, load, pieces
from hanse.rounds import Step
from hanse.summary import labels_told
from hanse.trust import trusted

if TYPE_CHECKING:
    import httpx

_PAGE = 1000
_SILENCE_S = 90.0  # the coordinator says something at least every 15 s, be it a comment
_LONGEST_PAUSE_S = 30.0

_NEWEST = 20  # runs among which the last one that asked the same data is looked for


class Connection:
    """The routes that a data scientist (and the command line) uses, as methods.

    Args:
        known: address, token and authority.
        transport: an ``httpx`` transport in place of the network, for tests.
    """

    simulated = False

    def __init__(self, known: credentials.Credentials, transport: httpx.BaseTransport | None = None) -> None:
        try:
            import httpx
        except ImportError:
            raise ConfigError("hanse.connect needs httpx: pip install 'hanse[scientist]'") from None
        self.url = known.url
        self.release = ""  # of the coordinator, once it has said
        self.defaults: Mapping[str, Json] = {}
        try:
            trust = trusted(known.url, authority=known.authority or None)
        except OSError as error:
            raise ConfigError(f"the authority's certificate {known.authority} cannot be read: {error}") from None
        try:
            self._http = httpx.Client(
                base_url=known.url,
                headers={"Authorization": f"Bearer {known.token}"},
                verify=trust,
                transport=transport,
                timeout=httpx.Timeout(30.0, connect=10.0, read=120.0),
                follow_redirects=False,
            )
        except (ImportError, ValueError) as error:  # of a proxy that httpx cannot use as it is
            what = "needs a package more: pip install 'httpx[socks]'" if isinstance(error, ImportError) else str(error)
            raise ConfigError(f"{known.url} cannot be reached by the proxy: {what}.{proxies.said(known.url)}") from None

    def close(self) -> None:
        self._http.close()

    # ------------------------------------------------------------ what an experiment needs

    def nodes(self) -> Sequence[Mapping[str, Json]]:
        rows = []
        for node in self.call("GET", "/api/nodes")["nodes"]:
            sets = node.get("datasets") or []
            known = [d["rows"] for d in sets if d.get("rows") is not None]
            rows.append(
                {
                    "node": node["id"],
                    "status": node["status"],
                    "datasets": len(sets),
                    "rows": sum(known) if known else None,
                    "busy": bool(node.get("busy")),
                    **({"country": node["country"]} if node.get("country") else {}),
                    "last heartbeat": node.get("last_heartbeat"),
                    **({"warnings": "; ".join(node["warnings"])} if node.get("warnings") else {}),
                }
            )
        return rows

    def datasets(self) -> Sequence[Mapping[str, Json]]:
        rows = []
        for node in self.call("GET", "/api/nodes")["nodes"]:
            for found in node.get("datasets") or []:
                rows.append(
                    {
                        "node": node["id"],
                        "dataset": found["name"],
                        "kind": found.get("kind"),
                        "rows": found.get("rows"),
                        "tags": found.get("tags") or [],
                        "version": str(found.get("version") or "")[:12],
                    }
                )
        return rows

    def analyze(self, config: RunConfig) -> Mapping[str, Json]:
        found = self.fitting(config)
        schemas = {node: dict(d.get("columns") or {}) for node, d in found.items()}
        union, common = features.union_and_intersection(schemas)
        sites = [
            {"node": n, "dataset": d["name"], "rows": d.get("rows"), "columns": len(schemas[n])}
            for n, d in found.items()
        ]
        return {**self._align(config, found), "union": union, "intersection": common, "sites": sites}

    def preview(self, config: RunConfig, run_id: str) -> str:
        if run_id:
            return str(self.session(run_id)["code_preview"])
        found = self.fitting(config)
        return bundle.freeze(config, self._align(config, found), bundle.bound(found)).preview()

    def fitting(self, config: RunConfig) -> dict[str, Mapping[str, Json]]:
        """Node to the dataset that it would use, as the coordinator would choose it, with the ``labels`` that
        it told of each target and the node's ``country``."""
        found = {}
        for client in self.call("GET", "/api/clients", params={"include": "features"})["clients"]:
            if config.expected_client_ids is not None and client["client_id"] not in config.expected_client_ids:
                continue
            fitting = [d for d in client.get("datasets") or [] if set(config.tags) <= set(d.get("tags") or [])]
            if len(fitting) > 1:  # the target may tell which is meant
                fitting = [d for d in fitting if {*config.targets} <= {*(d.get("columns") or {})}] or fitting
            if fitting:
                said = client.get("summary") or {}
                told = {name: labels_told(said, str(fitting[0]["name"]), name) for name in config.targets}
                found[str(client["client_id"])] = {**fitting[0], "labels": told, "country": client.get("country")}
        return dict(sorted(found.items()))

    def _align(self, config: RunConfig, datasets: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
        metadata = {c for d in datasets.values() for c in d.get("metadata_columns") or ()}
        labels = {name: {node: d["labels"][name] for node, d in datasets.items()} for name in config.targets}
        return alignment.of(config, {node: d.get("columns") or {} for node, d in datasets.items()}, labels, metadata)

    def propose(self, config: RunConfig) -> str:
        return str(self.start(config.to_send())["session_id"])

    def configuration(self, run_id: str) -> RunConfig:
        return RunConfig.read(self.session(run_id)["config"])

    def warnings(self, run_id: str) -> Sequence[str]:
        return [str(w) for w in (self.session(run_id).get("alignment") or {}).get("warnings", ())]

    def status(self, run_id: str) -> Mapping[str, Json]:
        raw = self.session(run_id)
        return {k: v for k, v in raw.items() if k not in ("code_preview", "config", "alignment")}

    def latest(self, strategies: Sequence[str], tags: Sequence[str]) -> str:
        for session in self.sessions("completed", _NEWEST):
            config = session.get("config") or {}
            if config.get("federated_strategy") in strategies and list(config.get("tags") or ()) == list(tags):
                return str(config["federated_strategy"])
        return ""

    def cancel(self, run_id: str) -> None:
        self.act(run_id, "cancel")

    def resume(self, run_id: str) -> None:
        self.act(run_id, "resume")

    def result(self, run_id: str) -> Result:
        raw = self.session(run_id)
        if raw["state"] in ("failed", "rejected", "expired", "cancelled"):
            raise RunFailed(f"run {run_id} has no result: {raw['state']}. {raw.get('reason') or ''}".strip())
        return Result(
            self.model(run_id),
            RunConfig.read(raw["config"]),
            self.rounds(run_id),
            run_id,
            list(raw["expected_clients"]),
            raw.get("alignment") or {},
            str(raw.get("code_hash") or ""),
            False,
            str(raw.get("reason") or ""),
        )

    def models(self, run_id: str, after: int) -> Iterator[tuple[int, Result]]:
        versions: dict[int, int] = {}  # of a round, the first is the one that was kept after it
        for found in self.versions(run_id):
            if found["round"] is not None and found["round"] > after:
                versions.setdefault(int(found["round"]), int(found["version"]))
        if not versions:
            return
        raw = self.session(run_id)
        for number, version in sorted(versions.items()):
            steps = [s for s in self.rounds(run_id) if s.round is None or s.round <= number]
            yield (
                number,
                Result(
                    self.model(run_id, version),
                    RunConfig.read(raw["config"]),
                    steps,
                    run_id,
                    list(raw["expected_clients"]),
                    raw.get("alignment") or {},
                    str(raw.get("code_hash") or ""),
                ),
            )

    def stored(self, record: Record) -> str:
        sha = digest(record)
        if not self.call("GET", "/api/models", params={"sha": sha})["models"]:
            self.bring_in(b"".join(pieces(record)))
        return sha

    def bring_in(self, raw: bytes) -> dict[str, Json]:
        """The version that a model of elsewhere becomes here; ``raw`` is a file of Hanse."""
        return self.call("POST", "/api/models", content=raw)

    def watch(self, run_id: str, steps: bool = True) -> Iterator[Happening]:
        state, seen, asked = "", set[tuple[int, str]](), _Asked()
        pause = 0.0
        while True:
            try:
                with self._events() as events:
                    # the stream is open: what happens from here on is in it, what happened before is asked for once
                    raw = self.session(run_id)
                    for step in self.rounds(run_id) if steps else ():
                        if (step.step, step.started) not in seen:
                            seen.add((step.step, step.started))
                            yield Happening("running", step)
                    state, pause = raw["state"], 0.0
                    yield Happening(state, None, asked.look(raw), str(raw.get("reason") or ""))
                    if state in ENDED:
                        return
                    for kind, event in events:
                        if event.get("run") != run_id or (kind == "round" and not steps):
                            continue
                        for update in self._understood(run_id, kind, event, state, seen, steps, asked):
                            state = update.state
                            yield update
                            if state in ENDED:
                                return
            except Unreachable:
                if not state:
                    raise
            pause = min(_LONGEST_PAUSE_S, pause * 2 or 0.25)  # the stream broke: come back, not all at once
            time.sleep(pause)

    def _understood(
        self,
        run_id: str,
        kind: str,
        event: Mapping[str, Json],
        state: str,
        seen: set[tuple[int, str]],
        steps: bool,
        asked: _Asked,
    ) -> Iterator[Happening]:
        detail = event.get("detail") or {}
        if kind == "round":
            if (detail.get("step"), detail.get("started")) in seen:
                return  # it came with an earlier one: steps may be faster than these answers
            last = max((number for number, _ in seen), default=-1)
            for step in self.rounds(run_id, after=last - 1):  # the whole record, failed attempts too
                if (step.step, step.started) not in seen:
                    seen.add((step.step, step.started))
                    yield Happening("running" if state in ("pending", "awaiting_consent", "") else state, step)
        elif kind == "run.state":
            to = str(detail.get("to") or state)
            asked.waiting = None
            if to in ENDED:
                for step in self.rounds(run_id) if steps else ():
                    if (step.step, step.started) not in seen:
                        seen.add((step.step, step.started))
                        yield Happening(state, step)
            yield Happening(to, None, (), str(detail.get("reason") or ""))
        elif kind in ("consent", "proposal.sent"):
            if asked.waiting is not None and asked.tells(kind, event):
                yield Happening(state, None, tuple(asked.waiting))
                return
            raw = self.session(run_id)
            waiting = asked.look(raw)
            if raw["state"] not in ENDED:  # else it has run since; its steps are still to come, and then its end
                yield Happening(raw["state"], None, waiting, str(raw.get("reason") or ""))

    # ------------------------------------------------------------ the routes

    def me(self) -> dict[str, Json]:
        """The account behind the token, and the coordinator."""
        found = self.call("GET", "/api/me")
        self.release = str((found.get("coordinator") or {}).get("version") or "")
        return found

    def start(self, settings: Mapping[str, Json]) -> dict[str, Json]:
        """Proposes a run; the session. Where a coordinator of another release refuses a setting, both are named."""
        try:
            return self.call("POST", "/api/training/start", json=dict(settings))
        except ConfigError as error:
            if not self.release:
                self.me()
            if both := releases.differing(self.release, "the coordinator"):
                raise type(error)(f"{error.message} ({both})") from None
            raise

    def overview(self, config: RunConfig) -> dict[str, Json]:
        """Columns and labels over the nodes, as the coordinator sees them (``/api/training/analyze``)."""
        query = {"include": "features"}
        if config.expected_client_ids:
            query["client_ids"] = ",".join(config.expected_client_ids)
        if config.tags:
            query["tags"] = ",".join(config.tags)
        return self.call("GET", "/api/training/analyze", params=query)

    def node(self, node: str) -> dict[str, Json]:
        """One node, with the columns of its datasets."""
        return self.call("GET", f"/api/nodes/{_part(node)}")

    def events(self, since: int = 0, run: str = "", limit: int = 500) -> list[dict[str, Json]]:
        """What happened after event ``since``."""
        query = {"since": str(since), "limit": str(limit), **({"run": run} if run else {})}
        return list(self.call("GET", "/api/events", params=query)["events"])

    def follow(self) -> Iterator[dict[str, Json]]:
        """What happens from now on, until the connection breaks."""
        with self._events() as events:
            for _, event in events:
                yield event

    def sessions(self, state: str = "", limit: int = 100) -> list[dict[str, Json]]:
        """Runs, newest first."""
        query = {"limit": str(limit), **({"state": state} if state else {})}
        return list(self.call("GET", "/api/training/sessions", params=query)["sessions"])

    def session(self, run_id: str) -> dict[str, Json]:
        """One run with everything about it."""
        return self.call("GET", f"/api/training/sessions/{_part(run_id)}")

    def consent(self, run_id: str, node: str, decision: str, code_hash: str, reason: str = "") -> dict[str, Json]:
        """A data owner's decision about exactly the code that ``code_hash`` names."""
        body = {"client_id": node, "decision": decision, "code_hash": code_hash, "reason": reason}
        return self.call("POST", f"/api/training/sessions/{_part(run_id)}/consent", json=body)

    def act(self, run_id: str, action: str, reason: str = "") -> dict[str, Json]:
        """``execute``, ``cancel``, ``pause`` or ``resume``."""
        body = {"reason": reason} if reason else None
        return self.call("POST", f"/api/training/sessions/{_part(run_id)}/{action}", json=body)

    def rounds(self, run_id: str, after: int = -1) -> list[Step]:
        """The records of all steps after ``after``."""
        found: list[Step] = []
        while True:
            query = {"after": str(after), "limit": str(_PAGE)}
            page = self.call("GET", f"/api/runs/{_part(run_id)}/rounds", params=query)["rounds"]
            found += records.steps(page)
            if len(page) < _PAGE:
                return found
            after = int(page[-1]["step"])

    def analytics(self, run_id: str) -> dict[str, Json]:
        """Curves, contributions, importance and convergence, as the coordinator sees them."""
        return self.call("GET", f"/api/analytics/session/{_part(run_id)}")

    def card(self, run_id: str) -> str:
        """A model card in Markdown: data, consent, code, protection, figures."""
        return self._send("GET", f"/api/runs/{_part(run_id)}/card").text

    def coefficients(self, run_id: str) -> dict[str, Json]:
        """The regression table of an exact fit; of another model no ``terms``, and ``why``."""
        return self.call("GET", f"/api/runs/{_part(run_id)}/coefficients")

    def bundle(self, run_id: str) -> str:
        """The text whose SHA-256 the owners agreed to."""
        return self._send("GET", f"/api/runs/{_part(run_id)}/bundle").text

    def evidence(self, run_id: str) -> bytes:
        """The run's evidence (:mod:`hanse.evidence`), as it is signed."""
        return self._send("GET", f"/api/runs/{_part(run_id)}/evidence").content

    def inclusion(self, run_id: str, node: str) -> dict[str, Json]:
        """What shows a node that its replies were counted (:mod:`hanse.receipts`)."""
        return self.call("GET", f"/api/runs/{_part(run_id)}/inclusion", params={"client_id": node})

    def versions(self, run_id: str = "") -> list[dict[str, Json]]:
        """The model versions of a run; without, the latest of every run."""
        return list(self.call("GET", "/api/models", params={"run": run_id} if run_id else {})["models"])

    def model(self, run_id: str, version: int | None = None) -> Record:
        """The run's model, or an earlier version of it, checked against the hash that the coordinator names."""
        query = {} if version is None else {"version": str(version)}
        response = self._send("GET", f"/api/runs/{_part(run_id)}/model", params=query)
        record = load(response.content)
        wanted = response.headers.get("X-Hanse-Sha256", "")
        if wanted and digest(record) != wanted:
            raise Tampered(f"the model of run {run_id} does not fit its SHA-256 {wanted[:12]}…; fetch it again")
        return record

    def awaited(self, run_id: str) -> dict[str, Json]:
        """Of a run that is led from here: its state, and the step that it waits for. A sign of life, too."""
        return self.call("GET", f"/api/runs/{_part(run_id)}/messages")

    def say(self, run_id: str, step: int, said: Record) -> None:
        """Says what a step of such a run asks."""
        self.call("POST", f"/api/runs/{_part(run_id)}/messages/{step:d}", content=b"".join(pieces(said)))

    def returned(self, run_id: str, step: int, wait_s: float) -> Record | dict[str, Json]:
        """What came back of a step; while nothing has, the run's state and the step that it waits for."""
        query = {"wait": f"{wait_s:g}"}
        response = self._send("GET", f"/api/runs/{_part(run_id)}/messages/{step:d}", params=query)
        return load(response.content) if response.status_code == 200 else dict(response.json())

    def call(self, method: str, path: str, **arguments: Any) -> dict[str, Json]:
        """One request; its JSON object."""
        response = self._send(method, path, **arguments)
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise WireError(f"{self.url}{path} answered with something other than a JSON object; is it a coordinator?")
        return found

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        import httpx

        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        if response.status_code >= 300:
            raise self._error(response)
        return response

    def _unreachable(self, error: Exception) -> Unreachable:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Unreachable(
                f"the certificate of {self.url} is not signed by an authority that this machine knows; give "
                "the path of the authority's certificate as verify='ca.pem' (hanse login URL --ca ca.pem)"
            )
        return Unreachable(
            f"{self.url} does not answer ({str(error) or type(error).__name__}); "
            f"is the coordinator running, and is the address right?{proxies.said(self.url)}"
        )

    def _error(self, response: httpx.Response) -> HanseError:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            raw = response.json()["error"]
            message = str(raw["message"])
            details = [f"{d['field']}: {d['message']}" for d in raw.get("details") or []]
            return from_code(str(raw["code"]), "; ".join([message, *details]))
        if response.status_code == 401:
            return NotAuthenticated(f"{self.url} does not accept this token; run hanse login {self.url}")
        if response.status_code == 404:
            return NotFound(f"{self.url} has no {response.request.url.path}; is it a coordinator of this release?")
        return WireError(f"{self.url} answered with status {response.status_code}; is it a coordinator?")

    @contextlib.contextmanager
    def _events(self) -> Iterator[Iterator[tuple[str, dict[str, Json]]]]:
        """The stream of events from now on. Ends, without an error, when the connection does."""
        import httpx

        wait = httpx.Timeout(30.0, connect=10.0, read=_SILENCE_S)
        with contextlib.ExitStack() as stack:
            try:
                response = stack.enter_context(self._http.stream("GET", "/api/events/stream", timeout=wait))
                if response.status_code >= 300:
                    response.read()
                    raise self._error(response)
            except httpx.TransportError as error:
                raise self._unreachable(error) from None
            yield _events(response)


def _events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Json]]]:
    import httpx

    with contextlib.suppress(httpx.TransportError):
        kind, data = "", list[str]()
        for line in response.iter_lines():
            if line.startswith("event:"):
                kind = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif not line and data:
                with contextlib.suppress(ValueError):
                    event = json.loads("\n".join(data))
                    if isinstance(event, dict):
                        yield kind or str(event.get("kind") or ""), event
                kind, data = "", []


class _Asked:
    """Who has not decided about a run: as of a look at it, less those who accepted since, as the events say. To look
    anew after each of them, at a thousand nodes that have decided or not, was most of a statistic's time."""

    def __init__(self) -> None:
        self.waiting: dict[str, None] | None = None  # in their order; None: it has to be looked at
        self._hash = ""

    def look(self, session: Mapping[str, Json]) -> list[str]:
        """Those that are waited for."""
        waits = session["state"] == "awaiting_consent"
        found = list(session.get("remaining") or []) if waits else []
        self.waiting, self._hash = dict.fromkeys(found) if waits else None, str(session.get("code_hash") or "")
        return found

    def tells(self, kind: str, event: Mapping[str, Json]) -> bool:
        """Whether the event says who is waited for now; it does not where somebody said no, or of another proposal."""
        detail = event.get("detail") or {}
        if kind == "consent":
            if self.waiting is None or (detail.get("decision"), detail.get("hash")) != ("accept", self._hash):
                return False
            self.waiting.pop(str(event.get("node")), None)
        return True


def _part(run_id: str) -> str:
    """A run's id as a part of a path. It stands in URLs, so nothing but its own letters may be in it."""
    if not run_id or not all(c.isalnum() or c in "-_." for c in run_id) or run_id.strip(".") == "":
        raise NotFound(f"{run_id!r} is not the id of a run")
    return run_id
