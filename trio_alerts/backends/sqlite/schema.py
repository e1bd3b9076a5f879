"""What the SQLite file must look like: its tables and indices, and what marks it as ours. Blocking code."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from trio_alerts.errors import SchemaError

APPLICATION_ID = 0x7A1E7257  # marks the file as ours; any other number is somebody else's database
SCHEMA_VERSION = 2
# A record's place among others, as `entry_order` computes it. Its ID is two numbers of up to 64 bits with a dash
# between them, behind a stream's name and a bar if there are several.
_ENTRY_ID = "substr(id, length(rtrim(id, '0123456789-')) + 1)"
_DASH = f"instr({_ENTRY_ID}, '-')"
ENTRY_ORDER = (
    f"substr('{'0' * 20}' || substr({_ENTRY_ID}, 1, {_DASH} - 1), -20) || '-' || "
    f"substr('{'0' * 20}' || substr({_ENTRY_ID}, {_DASH} + 1), -20)"
)
SCHEMA = {
    "records": """CREATE TABLE records (
    id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    next_attempt_us INTEGER,
    lease_until_us INTEGER,
    view TEXT,
    scope TEXT,
    severity TEXT,
    rule_id TEXT,
    alert_id TEXT,
    occurred_us INTEGER,
    document TEXT NOT NULL
)""",
    "records_by_state": "CREATE INDEX records_by_state ON records (state, next_attempt_us)",
    "records_due": """CREATE INDEX records_due ON records (id, state, next_attempt_us, lease_until_us)
    WHERE next_attempt_us IS NOT NULL OR lease_until_us IS NOT NULL""",
    "records_by_entry": f"CREATE INDEX records_by_entry ON records ({ENTRY_ORDER})",
}
OUTDATED = ("records_waiting",)  # of schema 1: it knew two states
# No index on what only people filter by: each would add a tenth to every write, and a search reads newest first.

# Whose file it is: one row at most. Made when there is something to keep in it, also in a file of an older release.
DEPLOYMENT = """CREATE TABLE IF NOT EXISTS deployment (
    row INTEGER NOT NULL PRIMARY KEY CHECK (row = 1),
    identity TEXT NOT NULL
)"""


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Look whose database this is; in a transaction, or a peer that creates it just now looks like a stranger."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    version = user_version(connection)
    if (application or version or tables) and application != APPLICATION_ID:
        raise SchemaError(f"{path}: this database belongs to another program; choose another path")
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"{path}: made by a newer version of this program (schema {version}, this one knows"
            f" {SCHEMA_VERSION}); upgrade, or choose another path"
        )


def check(connection: sqlite3.Connection, path: Path, to_be_added: Collection[str]) -> None:
    """Compare the file with what we need. What is `to_be_added` may be missing.

    Raises:
        SchemaError: It is not as we made it.
    """
    refuse_foreign(connection, path)
    version = user_version(connection)
    if 0 < version < SCHEMA_VERSION and not to_be_added:
        raise SchemaError(f"{path}: made by an older version of this program (schema {version}); `run` upgrades it")
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())
    for name, sql in SCHEMA.items():
        if found.get(name) != sql and name not in to_be_added:
            was = found.get(name, "missing")
            raise SchemaError(f"{path}: {name} is not as this program made it: it is {was}, must be {sql}")
    (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    if journal != "wal":
        raise SchemaError(f"{path}: journal_mode is {journal}, must be wal: PRAGMA journal_mode = WAL")


def create(connection: sqlite3.Connection) -> None:
    """Create what is missing, and bring the file of an older version up to date, in a transaction.

    A process of that version which still has it open refuses it at its next guard.
    """
    version = user_version(connection)
    for name in missing_indices(connection) if version else SCHEMA:  # an older release knew fewer
        connection.execute(SCHEMA[name])
    if version < SCHEMA_VERSION:
        for name in OUTDATED:
            connection.execute(f"DROP INDEX IF EXISTS {name}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def missing_indices(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the indices that an older release did not make."""
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return [name for name, sql in SCHEMA.items() if sql.startswith("CREATE INDEX") and name not in present]


def user_version(connection: sqlite3.Connection) -> int:
    """Return the version of the schema; 0: the file is new."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def owner(connection: sqlite3.Connection) -> str | None:
    """Return the identity of the deployment that the file belongs to, if it has one."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'deployment'").fetchone() is None:
        return None
    row = connection.execute("SELECT identity FROM deployment").fetchone()
    return None if row is None else str(row[0])


def set_owner(connection: sqlite3.Connection, identity: str, *, replace: bool) -> None:
    """Note to which deployment the file belongs; what is noted already stays, but for a `replace`."""
    connection.execute(DEPLOYMENT)
    conflict = "REPLACE" if replace else "IGNORE"
    connection.execute(f"INSERT OR {conflict} INTO deployment VALUES (1, ?)", (identity,))  # noqa: S608


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let several reads see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
