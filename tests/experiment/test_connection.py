"""hanse.connect against a real coordinator, and against servers that are none."""

from __future__ import annotations

import http.server
import itertools
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import hanse
from experiment import sites
from experiment.federation import Living, living
from hanse.errors import (
    ConfigError,
    Conflict,
    HanseError,
    NodeFailed,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Refused,
    RunFailed,
    Tampered,
    Unreachable,
    WireError,
)
from hanse.experiment.connection import Connection
from hanse.experiment.credentials import Credentials
from hanse.experiment.federation import Federation
from hanse.experiment.proposal import Experiment
from hanse.experiment.seam import Happening
from hanse.identity import Authority
from hanse.messages import dump
from hanse.models import logistic_regression

FAST: dict[str, Any] = {
    "model": "logistic_regression",
    "federated_strategy": "fedavg",
    "rounds": 3,
    "target": "disease",
    "sample_id_column": None,
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    with living(tmp_path_factory.mktemp("coordinator"), sites.cancer()) as found:
        yield found


@pytest.fixture
def federation(real: Living) -> Iterator[Federation]:
    with hanse.connect(real.url, real.tokens["scientist"]) as found:
        yield found


def owner(real: Living, name: str) -> Connection:
    return Connection(Credentials(real.url, real.tokens[name]))


def decide(real: Living, run_id: str, decision: str = "accept", only: tuple[str, ...] = ()) -> None:
    for name in only or tuple(real.hospitals):
        here = owner(real, name)
        here.consent(run_id, name, decision, here.session(run_id)["code_hash"], "because")
        here.close()


def test_a_run_from_the_proposal_to_the_model(real: Living, federation: Federation, capsys: Any) -> None:
    assert federation.nodes().column("status") == ["online"] * 3
    assert federation.datasets().column("dataset") == ["patients"] * 3
    assert not federation.simulated
    experiment = federation.experiment(**FAST)
    assert len(experiment.analyze().features) == 10
    experiment.propose()
    assert experiment.status()["state"] == "awaiting_consent"
    assert experiment.preview().startswith("# hanse")
    seen: list[Happening] = []

    def note(update: Happening) -> None:
        seen.append(update)
        if len(seen) == 1:
            decide(real, experiment.run_id)

    result = experiment.wait(on_update=note)
    assert seen[0].waiting_for == ["site1", "site2", "site3"]
    assert [u.step for u in seen if u.step] == result.rounds
    assert [u.state for u in seen][-1] == "completed"
    said = capsys.readouterr().err
    assert "waiting for consent of site1, site2, site3" in said
    assert "round 3/3" in said
    assert "simulation" not in said
    assert result.metrics["auc"] > 0.95
    assert not result.simulated
    assert result.run_id == experiment.run_id
    assert len(result.bundle) == 64
    assert "Contribution of each site" in result._repr_html_()
    assert list(result.model().classes_) == ["benign", "malignant"]
    same = federation.run(experiment.run_id)
    assert dump(same.result().record) == dump(result.record)


def test_it_is_the_same_model_as_in_a_simulation(real: Living, federation: Federation) -> None:
    experiment = federation.experiment(**FAST, seed=11).propose()
    decide(real, experiment.run_id)
    far = experiment.wait(progress=False)
    near = hanse.simulate(sites.cancer(), seed=11).experiment(**FAST).run(progress=False)
    assert dump(far.record) == dump(near.record)
    assert list(far.history.column("loss")) == list(near.history.column("loss"))


def test_an_owner_says_no(real: Living, federation: Federation) -> None:
    experiment = federation.experiment(**FAST).propose()
    decide(real, experiment.run_id, "reject", ("site2",))
    with pytest.raises(Refused, match="rejected"):
        experiment.wait(progress=False)
    with pytest.raises(RunFailed, match="no result: rejected"):
        experiment.result()


def test_a_run_that_fails_says_why(real: Living, federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = federation.experiment(**FAST | {"model": "sgd_classifier"}, model_options={"loss": "no such loss"})
    with pytest.raises(ConfigError, match="loss of sgd_classifier"):  # before any owner is asked
        wrong.propose()

    def fails(*_: Any, **__: Any) -> Any:
        raise NodeFailed("the disk of this hospital is on fire")

    monkeypatch.setattr(logistic_regression.LogisticRegression, "train", fails)
    experiment = federation.experiment(**FAST, max_failed_rounds=0)
    experiment.propose()
    decide(real, experiment.run_id)
    with pytest.raises(RunFailed, match=r"ended as failed\..*site1: the disk of this hospital is on fire"):
        experiment.wait(progress=False)


def test_cancel_while_it_runs(real: Living, federation: Federation) -> None:
    experiment = federation.experiment(**FAST | {"rounds": 100_000}).propose()
    decide(real, experiment.run_id)
    states = []
    for update in experiment.watch():
        if update.step is not None and "cancelling" not in states:
            experiment.cancel()
            states.append("cancelling")
        states.append(update.state)
    assert states[-1] == "cancelled"
    with pytest.raises(Conflict):
        experiment.cancel()
    with pytest.raises(RunFailed, match="cancelled"):
        experiment.wait(progress=False)


def test_pause_and_resume(real: Living, federation: Federation) -> None:
    experiment = federation.experiment(**FAST | {"rounds": 40}).propose()
    here = owner(real, "scientist")
    decide(real, experiment.run_id)
    states = []
    for update in experiment.watch():
        if update.step is not None and update.step.round == 1:
            here.act(experiment.run_id, "pause", "lunch")
        if update.state == "paused" and "paused" not in states:
            here.act(experiment.run_id, "resume")
        states.append(update.state)
    here.close()
    assert "paused" in states
    assert states[-1] == "completed"
    assert experiment.result().history.column("round")[-1] == 40


def test_watching_goes_on_after_the_stream_broke(real: Living) -> None:
    """Every stream is cut after a few bytes of events; nothing is missed, nothing comes twice."""
    cuts = itertools.count()

    class Cut(httpx.SyncByteStream):
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __iter__(self) -> Iterator[bytes]:
            for number, chunk in enumerate(self.inner):
                if number == 1 and next(cuts) < 3:
                    raise httpx.ReadError("cut")
                yield chunk

        def close(self) -> None:
            self.inner.close()

    class Flaky(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.url.path.endswith("/stream"):
                return httpx.Response(response.status_code, headers=response.headers, stream=Cut(response.stream))
            return response

    here = Connection(Credentials(real.url, real.tokens["scientist"]), Flaky())
    experiment = Federation(here).experiment(**FAST | {"rounds": 120}).propose()
    decide(real, experiment.run_id)
    steps = [u.step for u in experiment.watch() if u.step]
    assert steps == experiment.result().rounds
    assert next(cuts) >= 2
    here.close()


class Noting(httpx.HTTPTransport):
    """Notes which paths are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        return super().handle_request(request)


def test_who_is_waited_for_follows_from_the_events(real: Living) -> None:
    """With each decision the run was looked at again, with all who had decided."""
    noting = Noting()
    here = Connection(Credentials(real.url, real.tokens["scientist"]), noting)
    experiment = Federation(here).experiment(**FAST).propose()
    watching = experiment.watch()
    waited = [len(next(watching).waiting_for)]
    noting.asked.clear()
    decide(real, experiment.run_id)
    for update in watching:
        if update.state == "awaiting_consent" and len(update.waiting_for) != waited[-1]:
            waited.append(len(update.waiting_for))
    assert waited == list(range(waited[0], -1, -1))
    assert f"/api/training/sessions/{experiment.run_id}" not in noting.asked
    here.close()


def test_steps_that_came_together_are_asked_for_once(real: Living, federation: Federation) -> None:
    noting = Noting()
    asked = noting.asked
    here = Connection(Credentials(real.url, real.tokens["scientist"]), noting)
    experiment = Federation(here).experiment(**FAST | {"rounds": 40}).propose()
    watching = experiment.watch()
    next(watching)  # the stream is open, and nobody reads it until the run is over
    decide(real, experiment.run_id)
    list(federation._backend.watch(experiment.run_id))
    asked.clear()
    steps = [update.step for update in watching if update.step]
    assert sum(path.endswith("/rounds") for path in asked) <= 3
    assert steps == experiment.result().rounds
    assert len(steps) > 40
    here.close()


@pytest.mark.parametrize("shown", [False, True])
def test_steps_that_nobody_is_shown_are_not_asked_for(real: Living, shown: bool) -> None:
    noting = Noting()
    asked = noting.asked
    here = Connection(Credentials(real.url, real.tokens["scientist"]), noting)
    experiment = Federation(here).experiment(**FAST | {"rounds": 5}).propose()
    decide(real, experiment.run_id)
    seen: list[Happening] = []
    result = experiment.wait(progress=False, on_update=seen.append if shown else None)
    assert len(result.rounds) > 5
    if shown:
        assert [update.step for update in seen if update.step] == result.rounds
    else:
        at_the_end = 1  # for the result
        assert sum(path.endswith("/rounds") for path in asked) <= at_the_end
    here.close()


@pytest.mark.parametrize("outer", ["{}\n", " {}", "{}\r\n"])
def test_a_token_is_read_with_the_end_of_its_line(real: Living, outer: str) -> None:
    with hanse.connect(real.url, outer.format(real.tokens["scientist"])) as here:
        assert here.nodes()


@pytest.mark.parametrize("odd", ["{} x", "{}\r\nX: y", "t\u00f6k{}", " "])
def test_a_token_that_cannot_be_sent_is_in_no_error(real: Living, odd: str) -> None:
    """It was said that the coordinator does not answer, with all of the token."""
    token = real.tokens["scientist"]
    with pytest.raises(NotAuthenticated, match="no token has") as error:
        hanse.connect(real.url, odd.format(token))
    assert token not in str(error.value)


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:x"])
def test_an_address_that_is_none_is_refused_in_words(url: str) -> None:
    with pytest.raises(ConfigError, match="expected https://host:port"):
        hanse.connect(url, "hanse_x")


def test_what_the_coordinator_refuses(real: Living, federation: Federation) -> None:
    with pytest.raises(NotAuthenticated):
        hanse.connect(real.url, "hanse_" + "x" * 43)
    with pytest.raises(NotFound):
        Experiment(federation._backend, federation.experiment(**FAST).config, "run-nothere").status()
    for odd in ("../../etc/passwd", "a/b", "a?b", "..", ""):
        with pytest.raises((NotFound, Conflict)):
            Experiment(federation._backend, federation.experiment(**FAST).config, odd).status()
    here = owner(real, "site1")
    with pytest.raises(NotAllowed):
        here.start({})
    here.close()
    with pytest.raises(ConfigError, match="target column 'nothing' is missing"):
        federation.experiment(**FAST | {"target": "nothing"}).propose()
    with pytest.raises(HanseError, match="there is no node mars"):
        federation.experiment(**FAST, expected_client_ids=["mars"]).propose()


def test_a_model_that_does_not_fit_its_hash(real: Living, federation: Federation) -> None:
    experiment = federation.experiment(**FAST).propose()
    decide(real, experiment.run_id)
    experiment.wait(progress=False)

    class Forged(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.url.path.endswith("/model"):
                raw = bytearray(response.read())
                raw[-1] ^= 1
                return httpx.Response(200, headers=response.headers, content=bytes(raw))
            return response

    here = Connection(Credentials(real.url, real.tokens["scientist"]), Forged())
    with pytest.raises(Tampered, match="SHA-256"):
        here.model(experiment.run_id)
    here.close()


# ---------------------------------------------------------------- servers that are no coordinator


def test_nobody_answers() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 does not answer"):
        hanse.connect("http://127.0.0.1:9", "t")


def test_plain_text_only_on_loopback_and_never_without_trust() -> None:
    for url in ("http://coordinator.example", "http://10.0.0.1:8000", "http://localhost.example"):
        with pytest.raises(ConfigError, match="plain text"):
            hanse.connect(url, "t")
    with pytest.raises(ConfigError, match="verify=False"):
        hanse.connect("https://127.0.0.1:9", "t", verify=False)
    with pytest.raises(ConfigError, match="cannot be read"):
        hanse.connect("https://127.0.0.1:9", "t", verify="/nowhere/ca.pem")
    for url in ("ftp://x", "x", "https://", "https://user:word@host"):
        with pytest.raises(ConfigError):
            hanse.connect(url, "t")


class Odd(http.server.BaseHTTPRequestHandler):
    answer: tuple[int, dict[str, str], bytes] = (200, {}, b"")
    asked: list[Any]

    def do_GET(self) -> None:
        type(self).asked.append(self.headers.get("Authorization"))
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def odd() -> Iterator[tuple[str, type[Odd]]]:
    kind = type("Here", (Odd,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", kind
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((200, {}, b"<html>hello"), WireError, "other than a JSON object"),
        ((200, {}, b"[1]"), WireError, "other than a JSON object"),
        ((200, {}, b"\xff\xfe"), WireError, "other than a JSON object"),
        ((500, {}, b"boom"), WireError, "status 500"),
        ((404, {}, b"no"), NotFound, "is it a coordinator"),
        ((401, {}, b"{}"), NotAuthenticated, "hanse login"),
        ((403, {}, b'{"error": {"code": "not_allowed", "message": "no"}}'), NotAllowed, "no"),
        (
            (
                422,
                {},
                b'{"error": {"code": "config", "message": "wrong", "details": [{"field": "x", "message": "y"}]}}',
            ),
            ConfigError,
            "wrong; x: y",
        ),
        ((418, {}, b'{"error": "text"}'), WireError, "status 418"),
        ((418, {}, b'{"error": {"code": "a code of tomorrow", "message": "new"}}'), HanseError, "new"),
    ],
)
def test_odd_answers(odd: Any, answer: Any, error: type[HanseError], words: str) -> None:
    url, kind = odd
    kind.answer = answer
    with pytest.raises(error, match=words):
        hanse.connect(url, "t")


def test_a_redirection_does_not_get_the_token(odd: Any) -> None:
    url, kind = odd
    kind.answer = (302, {"Location": url + "/elsewhere"}, b"")
    with pytest.raises(WireError, match="status 302"):
        hanse.connect(url, "t")
    assert kind.asked == ["Bearer t"]


def test_an_authority_that_is_not_known(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "authority")
    key, certificate = authority.issue_server(("localhost", "127.0.0.1"))
    for name, content in (("key", key), ("crt", certificate), ("ca.pem", authority.pem)):
        (tmp_path / name).write_bytes(content)
    kind = type("Tls", (Odd,), {"asked": [], "answer": (200, {}, b'{"account": {}}')})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"https://127.0.0.1:{server.server_port}"
    try:
        with pytest.raises(Unreachable, match=r"verify='ca\.pem'"):
            hanse.connect(url, "t")
        assert kind.asked == []  # type: ignore[attr-defined]
        hanse.connect(url, "t", verify=tmp_path / "ca.pem").close()
        assert kind.asked == ["Bearer t"]  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ------------------------------------------------------------ proxies


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("socks5://me:secret@127.0.0.1:9", r"pip install 'httpx\[socks\]'.*the proxy socks5://127.0.0.1:9 \("),
        ("http://me:secret@127.0.0.1:9", r"does not answer.*the proxy http://127.0.0.1:9 \(.*NO_PROXY=far.example"),
        ("gopher://127.0.0.1:9", r"by the proxy: .*gopher"),
    ],
)
def test_a_proxy_that_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str, said: str) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(HanseError, match=said) as refused:
        hanse.connect("https://far.example:8000", "token")
    assert "secret" not in refused.value.message
