"""Accounts: tokens are shown once, kept as hashes, and worth nothing when they should be."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from hanse.errors import ConfigError, Conflict, NotFound
from hanse.store.store import Store


def test_a_token_opens_its_account_only(store: Store) -> None:
    ada, token = store.accounts.create_account("ada", "data_scientist", actor="op")
    bob, other = store.accounts.create_account("bob", "operator")
    assert re.fullmatch(r"hanse_[A-Za-z0-9_-]{32}", token)
    assert store.accounts.authenticate(token) == ada == store.accounts.get(ada.id) == store.accounts.find("ada")
    assert store.accounts.authenticate(other) == bob
    assert [a.name for a in store.accounts.list()] == ["ada", "bob"]
    assert [a.name for a in store.accounts.list("operator")] == ["bob"]
    assert ada.public()["role"] == "data_scientist"


@pytest.mark.parametrize(
    "token", ["", "hanse_", "hanse_" + "a" * 32, "hanse_" + "é" * 32, "x" * 100_000, "\0", None, 3, b"hanse_"]
)
def test_wrong_tokens_open_nothing(store: Store, token: str) -> None:
    store.accounts.create_account("ada", "operator")
    assert store.accounts.authenticate(token) is None


def test_rotation_and_disabling(store: Store) -> None:
    ada, old = store.accounts.create_account("ada", "operator")
    new = store.accounts.rotate_token(ada.id)
    assert store.accounts.authenticate(old) is None
    assert store.accounts.authenticate(new) == ada
    assert store.accounts.disable(ada.id).disabled
    assert store.accounts.disable(ada.id).disabled
    assert store.accounts.authenticate(new) is None
    assert store.accounts.authenticate(store.accounts.rotate_token(ada.id)) is None


def test_no_token_is_kept(store: Store) -> None:
    ada, token = store.accounts.create_account("ada", "operator")
    _, secret = store.nodes.join_tokens.create("ada")
    store.accounts.rotate_token(ada.id)
    with store.database.read() as connection:
        for table in ("accounts", "join_tokens", "events"):
            rows = str(connection.execute(text(f"SELECT * FROM {table}")).all())  # noqa: S608
            assert token not in rows
            assert secret not in rows


def test_data_owners_and_their_nodes(store: Store) -> None:
    owner, token = store.accounts.create_account("clinic", "data_owner", ["b", "a"])
    assert owner.nodes == ("a", "b")
    assert store.accounts.link(owner.id, "c").nodes == ("a", "b", "c")
    assert store.accounts.unlink(owner.id, "b").nodes == ("a", "c")
    found = store.accounts.authenticate(token)
    assert found is not None
    assert found.nodes == ("a", "c")
    rival, _ = store.accounts.create_account("rival", "data_owner")
    with pytest.raises(Conflict, match="another owner"):
        store.accounts.link(rival.id, "a")
    with pytest.raises(Conflict, match="another owner"):
        store.accounts.create_account("third", "data_owner", ["a"])
    assert store.accounts.find("third") is None  # nothing of it stays
    scientist, _ = store.accounts.create_account("sci", "data_scientist")
    with pytest.raises(ConfigError, match="only a data_owner"):
        store.accounts.link(scientist.id, "z")


def test_what_is_refused(store: Store) -> None:
    store.accounts.create_account("ada", "operator")
    with pytest.raises(Conflict, match="already"):
        store.accounts.create_account(" ada ", "operator")
    with pytest.raises(ConfigError, match="data_owner"):
        store.accounts.create_account("bob", "root")
    with pytest.raises(ConfigError, match="name"):
        store.accounts.create_account(" ", "operator")
    with pytest.raises(ConfigError, match="id of a node"):
        store.accounts.create_account("bob", "data_owner", ["../x"])
    for call in (store.accounts.get, store.accounts.rotate_token, store.accounts.disable):
        with pytest.raises(NotFound):
            call("acc-\0")
