"""What is fuzzed beside REST: the wire, settings, policies and their cases, data sets, evidence, join tokens."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hanse.bundle import thaw
from hanse.cedar import policies, shipped
from hanse.cedar.cases import outcomes, read_cases
from hanse.config import RunConfig
from hanse.coordinator.governance import VOCABULARY
from hanse.decisions import SignedDecision, proven, signed
from hanse.errors import ConfigError, HanseError
from hanse.evidence import seal, verify
from hanse.evidence.archive import pack, unpack
from hanse.evidence.included import included
from hanse.evidence.sealed import MANIFEST, SIGNATURE
from hanse.identity import Authority, JoinToken, NodeIdentity, create_key, csr
from hanse.messages import Assembler, Message, Record, dump, dumps, frames, load, loads
from hanse.node.approvals import Proposal
from hanse.node.dataset import Dataset
from hanse.node.reading_process import ReadingProcess
from hanse.node.settings import NodeSettings
from hanse.policy import policy_file
from hanse.signing import Signer
from hanse.store.audit import Entry
from tests.coordinator.federation import Federation
from tests.coordinator.test_inclusion import logged

from .tried import Target

Made = Callable[[Path], Target]


def wire(folder: Path) -> Target:
    """Frames as they come from the other end: signals, headers, chunks."""
    small = Message("task", "1", "a", Record({"a": [1, {"b": None}], "text": "ä"}, {"x": np.arange(6.0).reshape(2, 3)}))
    large = Message("reply", "2", "", Record({}, {"w": np.zeros(300_000, np.float32), "i": np.arange(4)}))
    whole = [b"".join(_with_length(f) for f in frames(m, 1)) for m in (small, large)]

    def run(raw: bytes) -> None:
        assembler = Assembler()
        while len(raw) >= 4:
            size = int.from_bytes(raw[:4], "little")
            found = assembler.feed(raw[4 : 4 + size])
            if isinstance(found, Message):
                sum(float(np.sum(found.body.arrays[name])) for name in found.body.arrays)
            raw = raw[4 + size :]

    return Target(whole, run)


def _with_length(frame: Any) -> bytes:
    raw = b"".join(frame) if isinstance(frame, (list, tuple)) else bytes(frame)
    return len(raw).to_bytes(4, "little") + raw


def record(folder: Path) -> Target:
    """A model as a file."""
    made = [dump(Record({"a": 1}, {"x": np.arange(3)})), dump(Record({"deep": [[[]]]}, {"b": np.zeros((2, 0), bool)}))]

    def run(raw: bytes) -> None:
        found = load(raw)
        for name in found.arrays:
            np.asarray(found.arrays[name]).sum()

    return Target(made, run)


def run_config(folder: Path) -> Target:
    """Settings of a run, as JSON."""
    corpus: list[Mapping[str, Any]] = [
        {"federated_strategy": "probe", "num_rounds": 3, "sample_id_column": None},
        {"model_name": "logistic_regression", "target_column": "y", "num_rounds": 5, "fraction": 0.5, "tags": ["a"]},
        {"model_name": "xgboost", "target_column": "y", "model_options": {"max_depth": 3, "learning_rate": 0.1}},
        {"federated_strategy": "statistics", "query": [{"ask": "mean", "columns": ["a"]}]},
        {"privacy": {"epsilon": 1.0, "delta": 1e-6}, "gathering": "secure", "transforms": ["clip:norm=1"]},
    ]

    def run(raw: bytes) -> None:
        RunConfig.parse(loads(raw.decode("utf-8", "replace")))

    return Target([json.dumps(one).encode() for one in corpus], run)


def node_settings(folder: Path) -> Target:
    """``node.toml``."""
    text = NodeSettings.parse({"node_id": "a", "policy": {"minimum_samples": 5}}).to_toml()

    def run(raw: bytes) -> None:
        try:
            plain = tomllib.loads(raw.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
            return
        NodeSettings.parse(plain).to_toml()

    return Target([text.encode()], run)


def settings_file(folder: Path) -> Target:
    """``node.toml`` as the node reads it from the disk."""
    text = NodeSettings.parse({"node_id": "a"}).to_toml()

    def run(raw: bytes) -> None:
        (folder / "node.toml").write_bytes(raw)
        NodeSettings.load(folder)

    return Target([text.encode()], run)


def _shipped(ending: str) -> list[bytes]:
    root = Path(str(shipped.__file__)).parent
    return [place.read_bytes() for place in sorted(root.rglob(f"*{ending}"))]


def cedar(folder: Path) -> Target:
    """Policies."""

    def run(raw: bytes) -> None:
        for vocabulary in (VOCABULARY, policy_file.VOCABULARY):
            try:
                policies.Policies({"p.cedar": raw.decode()}, vocabulary)
            except (ConfigError, UnicodeDecodeError):
                continue

    return Target(_shipped(".cedar"), run)


def cases(folder: Path) -> Target:
    """Tables of cases, in each of their formats."""
    table = b"name,expect,by,proposer\nx,allow,all,ada\n"
    one = b'{"cases": [{"name": "x", "expect": "allow", "by": "all"}], "given": {"action": "answer"}}'
    kept = policies.Policies({"p": '@id("all") permit (principal, action, resource);'}, policy_file.VOCABULARY)

    def run(raw: bytes) -> None:
        refused: list[HanseError] = []
        for ending in ("yaml", "json", "csv"):
            place = folder / f"cases.{ending}"
            place.write_bytes(raw)
            try:
                list(outcomes(kept, read_cases(place, policy_file.VOCABULARY)))
            except HanseError as error:
                refused.append(error)
        if len(refused) == 3:
            raise refused[0]

    return Target([*_shipped(".yaml"), table, one], run)


def _described(folder: Path, path: Path, corpus: list[bytes], file: Path | None = None) -> Target:
    """The data set at ``path``, looked at as where its owner adds it, each time with other bytes in ``file``."""
    home = folder / "node"
    NodeSettings.parse({"node_id": "a", "limits": {"memory_mb": 512}}).save(home)
    reading = ReadingProcess(home)
    dataset = Dataset("d", (), "", {}, 0, "", "", path)

    def run(raw: bytes) -> None:
        (file or path).write_bytes(raw)
        reading.describe(dataset, lambda done: None)

    return Target(corpus, run, reading.close)


def dataset_csv(folder: Path) -> Target:
    """A data set as CSV."""
    corpus = [
        b"id,age,sex,y\n1,40,f,0\n2,51.5,m,1\n3,,f,0\n",
        b'a;b\n"x;1";2,5\n"y""z";3\n',
        b"t,d\n2026-01-01,true\n2026-02-30,false\n",
    ]
    return _described(folder, folder / "d.csv", corpus)


def dataset_profile(folder: Path) -> Target:
    """A profile, of which the abundances are changed."""
    (folder / "set").mkdir()
    (folder / "set" / "metadata.tsv").write_text("sample\tage\ns1\t40\ns2\t51\n")
    corpus = [b"clade_name\ts1\ts2\nk__A\t1.5\t2\nk__B\t0\t3\n", b"sample\tk__A\tk__B\ns1\t1\t2\ns2\t3\t4\n"]
    return _described(folder, folder / "set", corpus, folder / "set" / "profiles.tsv")


def dataset_parquet(folder: Path) -> Target:
    """A data set as Parquet."""
    import polars as pl

    frame = pl.DataFrame(
        {"a": [1, 2, None], "b": ["x", None, "z"], "c": [1.5, float("nan"), 2.0], "d": [True, False, True]}
    )
    corpus = []
    for compression in ("zstd", "snappy", "uncompressed"):
        frame.write_parquet(folder / "x.parquet", compression=compression)  # type: ignore[arg-type]
        corpus.append((folder / "x.parquet").read_bytes())
    return _described(folder, folder / "d.parquet", corpus)


def dataset_image(folder: Path) -> Target:
    """A folder of images, of which one is changed."""
    from PIL import Image

    corpus = []
    for name in ("png", "jpeg", "bmp", "tiff"):
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(folder / f"x.{name}")
        corpus.append((folder / f"x.{name}").read_bytes())
        (folder / f"x.{name}").unlink()
    (folder / "set" / "yes").mkdir(parents=True)
    (folder / "set" / "no").mkdir()
    (folder / "set" / "no" / "b.png").write_bytes(corpus[0])
    return _described(folder, folder / "set", corpus, folder / "set" / "yes" / "a.png")


def evidence(folder: Path) -> Target:
    """A file of evidence, and zips that are none."""
    corpus = [pack({"manifest.json": b"{}", "manifest.sig": b"AAAA", "authority.crt": b"no"}), pack({"a": b"b" * 100})]
    return Target(corpus, verify)


def signed_evidence(folder: Path) -> Target:
    """Evidence of which a coordinator has changed one file, and signed all of it anew, or a proof of inclusion; the
    first byte says which."""
    files, proof, authority, entries = asyncio.run(_evidence_of_a_run(folder))
    names = [*sorted(files), "proof"]
    manifest = loads(files[MANIFEST].decode())
    about = {name: value for name, value in manifest.items() if name not in ("form", "files")}
    content = {name: raw for name, raw in files.items() if name not in (MANIFEST, SIGNATURE)}
    sound = seal(about, content, authority.sign)
    assert not verify(sound, authority.pem).problems  # so what is tried gets as far as this does
    assert included(sound, proof, entries).sound

    def run(raw: bytes) -> None:
        name, changed = names[raw[0] % len(names)] if raw else MANIFEST, raw[1:]
        if name == "proof":
            included(sound, loads(changed.decode("utf-8", "replace")), entries)
        elif name in (MANIFEST, SIGNATURE):
            sign = base64.b64encode(authority.sign(changed)) if name == MANIFEST else changed
            verify(pack({**files, MANIFEST: changed if name == MANIFEST else files[MANIFEST], SIGNATURE: sign}))
        else:
            made = seal(about, {**content, name: changed}, authority.sign)
            if not verify(made, authority.pem).problems:  # as the command does
                included(made, proof, entries)

    parts = {**files, "proof": dumps(proof).encode()}
    return Target([bytes([place]) + parts[name] for place, name in enumerate(names)], run)


async def _evidence_of_a_run(folder: Path) -> tuple[dict[str, bytes], Any, Authority, list[Entry]]:
    """Of one node with a key, that decided and answered; its proof of inclusion and its own audit log."""
    async with Federation(folder / "federation") as f:
        f.people("a")
        node = await f.node("a", online=False, signs=True, standing="accept")
        log = logged(folder, node)
        await f.connect("a")
        run = (await f.propose(expected_client_ids=["a"]))["session_id"]
        await f.state(run, "completed")
        raw = (await f.call("sci", "GET", f"/api/runs/{run}/evidence")).content
        proof = await f.ok("owner-a", "GET", f"/api/runs/{run}/inclusion?client_id=a")
        assert f.it.authority is not None
        return unpack(raw), proof, f.it.authority, list(log.each())


def decision(folder: Path) -> Target:
    """What proves an owner's decision."""
    authority, key = Authority.open(folder / "authority"), create_key(folder / "a")
    identity = NodeIdentity("a", key, authority.issue_node(csr(key, "a"), "a"), authority.pem, "grpc://localhost:1")
    said = SignedDecision("a", "r", "ab", "p", "accept", "o", "", datetime.now(UTC).isoformat(), "")

    def run(raw: bytes) -> None:
        found = loads(raw.decode("utf-8", "replace"))
        proven(found, authority.pem)

    return Target([json.dumps(signed(said, Signer(identity))).encode()], run)


def join_token(folder: Path) -> Target:
    """What an operator sends a node."""
    made = JoinToken("http://localhost:8000", "grpc://localhost:7443", "s", "ab" * 32, "a").encode()
    return Target([made.encode()], lambda raw: JoinToken.decode(raw.decode("utf-8", "replace")))


def proposal(folder: Path) -> Target:
    """What a coordinator proposes, as a node reads it."""
    text = '{"hanse":"0","config":{},"alignment":{},"datasets":{},"gathering":{},"transforms":[],"code":{}}'
    said = {
        "run": "r",
        "sha256": "",
        "text": text,
        "proposer": "p",
        "purpose": "",
        "expires": "2099-01-01T00:00:00+00:00",
    }

    def run(raw: bytes) -> None:
        found = loads(raw.decode("utf-8", "replace"))
        if isinstance(found, dict) and isinstance(found.get("text"), str):
            found["sha256"] = hashlib.sha256(found["text"].encode()).hexdigest()
            thaw(found["text"], found["sha256"])
        Proposal.parse(found)

    return Target(
        [json.dumps({**said, "dataset": {"name": "d", "version": "v"}}).encode(), json.dumps(said).encode()], run
    )


TARGETS: dict[str, Made] = {
    made.__name__: made
    for made in (
        wire,
        record,
        run_config,
        node_settings,
        settings_file,
        cedar,
        cases,
        dataset_csv,
        dataset_profile,
        dataset_parquet,
        dataset_image,
        evidence,
        signed_evidence,
        decision,
        join_token,
        proposal,
    )
}
