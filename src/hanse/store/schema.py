"""The tables, for SQLite and PostgreSQL alike. Times are seconds since 1970 (UTC)."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)

metadata = MetaData()
_Serial = BigInteger().with_variant(Integer, "sqlite")

# One row: the version (hanse.store.migrations) and the release of Hanse that made it
schema_version = Table(
    "schema_version", metadata, Column("version", Integer, primary_key=True), Column("release", String(40))
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    Column("token_digest", String(64), nullable=False, unique=True),
    Column("created", Double, nullable=False),
    Column("disabled_at", Double),
)

# Who an account is at an OpenID provider; the subject is never given to another person there
identities = Table(
    "identities",
    metadata,
    Column("issuer", String(2000), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("account", String(64), ForeignKey("accounts.id"), nullable=False),
)

# A node has one owner; the link may be made before the node enrols.
owners = Table(
    "owners",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("account", String(64), ForeignKey("accounts.id"), nullable=False, index=True),
)

# Several in one deployment, each with its people and nodes; a node may enrol later
studies = Table(
    "studies",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("closed", Double),
    Column("ends", Double),
    Column("most_epsilon", Double),  # of its runs together
    Column("most_delta", Double),
)

study_people = Table(
    "study_people",
    metadata,
    Column("study", String(64), ForeignKey("studies.name"), primary_key=True),
    Column("account", String(64), ForeignKey("accounts.id"), primary_key=True),
)

study_nodes = Table(
    "study_nodes",
    metadata,
    Column("study", String(64), ForeignKey("studies.name"), primary_key=True),
    Column("node", String(64), primary_key=True),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("status", String(20), nullable=False),
    Column("serial", String(80), nullable=False),
    Column("fingerprint", String(128), nullable=False, unique=True),
    Column("registered_at", Double, nullable=False),
    Column("last_heartbeat", Double),
    Column("address", Text, nullable=False),
    Column("capabilities", JSON, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("datasets", JSON, nullable=False),
    Column("consent_mode", String(20), nullable=False),
    Column("updated", Double, nullable=False),
    Column("next_serial", String(80)),  # issued, and not yet shown (hanse.store.nodes.Nodes.promise)
    Column("next_fingerprint", String(128)),
)

join_tokens = Table(
    "join_tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("node", String(64)),
    Column("owner", String(64), ForeignKey("accounts.id")),
    Column("created", Double, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("expires", Double, nullable=False),
    Column("used_at", Double),
    Column("used_by", String(64)),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("state", String(20), nullable=False, index=True),
    Column("config", JSON, nullable=False),
    Column("bundle_hash", String(128), nullable=False),
    Column("bundle", JSON, nullable=False),
    Column("nodes", JSON, nullable=False),
    Column("proposer", String(200), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("created", Double, nullable=False, index=True),
    Column("started", Double),
    Column("ended", Double),
    Column("expires", Double),
    Column("reason", Text, nullable=False),
    Column("result", String(64)),
    Column("step", Integer),
    Column("round", Integer),
    Column("updated", Double, nullable=False),
    Column("retry_at", Double),  # paused: when the coordinator goes on by itself; null: when a person says so
    Column("study", String(64), index=True),  # as its settings have it
    Column("code", String(64)),  # of the bundle, which is kept without it (hanse.store.bundles)
)

codes = Table(
    "codes",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("packed", LargeBinary, nullable=False),
)

consents = Table(
    "consents",
    metadata,
    Column("run", String(64), ForeignKey("runs.id"), primary_key=True),
    Column("node", String(64), primary_key=True),
    Column("decision", String(10), nullable=False),
    Column("hash", String(128), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("via", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("time", Double, nullable=False),
    Column("proof", JSON(none_as_null=True)),
)

rounds = Table(
    "rounds",
    metadata,
    Column("run", String(64), ForeignKey("runs.id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("label", String(64), nullable=False),
    Column("round", Integer),
    Column("started", Double, nullable=False),
    Column("ended", Double, nullable=False),
    Column("status", String(10), nullable=False),
    Column("record", JSON, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("run", String(64), ForeignKey("runs.id"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("time", Double, nullable=False),
    Column("sha", String(64), index=True),  # a blob, or ...
    Column("inline", LargeBinary),  # ... the bytes themselves
)

events = Table(
    "events",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("time", Double, nullable=False),
    Column("run", String(64)),
    Column("node", String(64)),
    Column("kind", String(64), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("events_of_run", "run", "id"),
    sqlite_autoincrement=True,  # an id is never given twice
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("run", String(64), ForeignKey("runs.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("round", Integer),
    Column("sha", String(64), nullable=False, index=True),
    Column("nbytes", BigInteger, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("run", "round", "sha"),
)

_APPEND_ONLY = {
    "sqlite": tuple(
        f"CREATE TRIGGER events_no_{change.lower()} BEFORE {change} ON events "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
        for change in ("UPDATE", "DELETE")
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION hanse_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''events are append-only''; END'",
        "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON events "
        "FOR EACH ROW EXECUTE FUNCTION hanse_append_only()",
    ),
}


@event.listens_for(events, "after_create")
def _append_only(_: Table, connection: Connection, **__: object) -> None:
    """Events are append-only, and the database sees to it too."""
    for statement in _APPEND_ONLY[connection.dialect.name]:
        connection.exec_driver_sql(statement)
