"""Events: in order, for ever, and told to those who listen."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hanse.store.events import Event
from hanse.store.store import Store


def test_reading_on(store: Store) -> None:
    assert store.events.last() == 0
    made = [store.events.append("tick", run=f"run-{i % 2}", node="a", actor="x", detail={"i": i}) for i in range(6)]
    assert store.events.since() == made
    assert [e.detail["i"] for e in store.events.since(made[1].id, limit=2)] == [2, 3]
    assert [e.detail["i"] for e in store.events.since(run="run-1")] == [1, 3, 5]
    assert store.events.since(kinds=["tock"]) == []
    assert len(store.events.since(node="a", kinds=["tick", "tock"])) == 6
    assert store.events.last() == made[-1].id
    assert made[0].public()["kind"] == "tick"


def test_subscribers_hear_in_order_and_do_not_disturb(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("a page was closed")

    store.events.subscribe(broken)
    end = store.events.subscribe(heard.append)
    threads = [threading.Thread(target=lambda: [store.events.append("tick") for _ in range(20)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == store.events.since()
    assert "a page was closed" in caplog.text
    end()
    store.events.append("unheard")
    assert len(heard) == 60


def test_a_subscriber_may_write(store: Store) -> None:
    def answer(event: Event) -> None:
        if event.kind == "ask":
            store.events.append("answer")

    store.events.subscribe(answer)
    store.events.append("ask")
    assert [e.kind for e in store.events.since()] == ["ask", "answer"]


@pytest.mark.parametrize("change", ["UPDATE events SET actor = 'mallory'", "DELETE FROM events"])
def test_the_database_refuses_to_change_them(store: Store, change: str) -> None:
    store.events.append("tick", actor="ada")
    with pytest.raises(DBAPIError, match="append-only"), store.database.write() as tx:
        tx.execute(text(change))
    assert store.events.since()[0].actor == "ada"
