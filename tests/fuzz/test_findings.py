"""What fuzzing has found, as tests; and that it finds what there is to be found."""

from __future__ import annotations

import base64
import json
import random
from contextlib import closing
from pathlib import Path

import pytest

from hanse.cedar.cases import read_cases
from hanse.errors import ConfigError, HanseError, NotAuthenticated, Tampered
from hanse.evidence import verify
from hanse.evidence.archive import pack
from hanse.flower import folder
from hanse.identity import Authority, create_key, csr, read_certificate
from hanse.node.settings import FILE, NodeSettings
from hanse.policy import policy_file
from hanse.settings import number

from .targets import TARGETS
from .tried import Target, failure, fuzz, mutants


def test_a_number_of_four_hundred_digits_is_none() -> None:
    for value in (10**400, -(10**400), float("nan"), float("inf")):
        assert not number().fits(value)
    assert number().fits(10**300)
    with pytest.raises(ConfigError):
        NodeSettings.parse({"node_id": "a", "policy": {"approval_days": 10**400}})


@pytest.mark.parametrize(
    ("ending", "text"), [("csv", "name,expect\nx\ry,allow\n"), ("yaml", "[" * 5000), ("json", "[" * 5000)]
)
def test_a_table_of_cases_that_is_none_is_told(tmp_path: Path, ending: str, text: str) -> None:
    place = tmp_path / f"cases.{ending}"
    place.write_bytes(text.encode())
    with pytest.raises(ConfigError):
        read_cases(place, policy_file.VOCABULARY)


def test_settings_nested_thousands_deep_are_told(tmp_path: Path) -> None:
    deep = "x = " + "[" * 5000 + "]" * 5000
    (tmp_path / FILE).write_text(deep)
    with pytest.raises(ConfigError, match="is not TOML"):
        NodeSettings.load(tmp_path)
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(deep)
    with pytest.raises(ConfigError, match="is not TOML"):
        folder.read(app)


def test_a_zip_that_ends_too_early_is_told(tmp_path: Path) -> None:
    raw = bytearray(pack({"a": b"b" * 100}))
    at = raw.rindex(b"PK\1\2")
    raw[at + 20 : at + 28] = (5000).to_bytes(4, "little") * 2  # the directory says 5000 bytes
    with pytest.raises(Tampered):
        verify(bytes(raw))


def test_a_certificate_of_a_version_that_there_is_not_is_no_certificate(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    pem = authority.issue_node(csr(create_key(tmp_path / "a"), "a"), "a")
    der = bytearray(base64.b64decode(b"".join(pem.splitlines()[1:-1])))
    der[der.index(b"\xa0\x03\x02\x01\x02") + 4] = 34
    lines = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(der)) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(NotAuthenticated):
        read_certificate(lines)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_each_target_stands_what_it_is_given(tmp_path: Path, name: str) -> None:
    """A few inputs each day; ``make fuzz`` tries for as long as it is told."""
    target = TARGETS[name](tmp_path)
    taken = 0
    with closing(target):
        for raw, _ in zip(mutants(target.corpus, random.Random(name)), range(60), strict=False):
            assert failure(target.run, raw) == ""
            try:
                target.run(raw)
                taken += 1
            except HanseError:
                pass
    assert taken or name in ("evidence", "wire")  # what is sound is taken


def test_a_fault_is_found_and_named_once(tmp_path: Path) -> None:
    def faulty(raw: bytes) -> None:
        if b"null" in raw:
            json.loads(b"{")

    found, tried = fuzz("faulty", Target([b'{"a": 1}'], faulty), 1.0, 1, tmp_path)
    assert tried > 100
    (one,) = found
    assert "JSONDecodeError" in one
    (kept,) = tmp_path.iterdir()
    assert b"null" in kept.read_bytes()


def test_a_manifest_that_is_no_text_is_told(tmp_path: Path) -> None:
    """Signed by whoever has the authority's key, so the signature fits."""
    authority = Authority.open(tmp_path)
    raw = b'{"form": "\xff"}'
    sign = base64.b64encode(authority.sign(raw))
    with pytest.raises(Tampered, match="the manifest is not of the form"):
        verify(pack({"manifest.json": raw, "manifest.sig": sign, "authority.crt": authority.pem}))
