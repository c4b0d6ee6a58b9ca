"""Opening the result database: SQLite settings, the schema version, and the triggers that keep rows as they are."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, inspect, select

from harness.errors import UsageError
from harness.store import schema

BUSY_TIMEOUT_S = 30
"""How long a writer waits for another: device threads write in turns of a few milliseconds."""

ADDED = {1: (*schema.VERSION_2, *schema.VERSION_3), 2: schema.VERSION_3}
"""An older version -> the tables that it lacks; nothing else has changed since."""


def make_engine(url: str) -> Engine:
    """An engine whose SQLite connections wait for each other; makes the folder of a SQLite file."""
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S} if url.startswith("sqlite") else {})
    if engine.dialect.name == "sqlite":
        Path(engine.url.database or "").parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions too late: a reader that turns writer fails at once instead of waiting.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _on_sqlite_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("bench_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def open_schema(connection: Connection, url: str) -> None:
    """Create the tables in an empty database; UsageError when it is of another program or another version."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return _create_schema(connection)
    if "schema_version" not in tables:
        raise UsageError(f"{url} is a database of something else (it has no table schema_version); name another file")
    found = connection.scalar(select(func.max(schema.schema_version.c.version)))
    if found in ADDED:
        return _upgrade(connection, found)
    if found != schema.VERSION:
        newer = "a newer bench wrote it: update bench" if (found or 0) > schema.VERSION else "an older bench wrote it"
        raise UsageError(f"{url} has schema version {found}, expected {schema.VERSION}: {newer}, or name another file")


def _create_schema(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    connection.execute(schema.schema_version.insert(), {"version": schema.VERSION})
    _forbid_changes(connection, schema.APPEND_ONLY)


def _upgrade(connection: Connection, found: int) -> None:
    added = ADDED[found]
    schema.metadata.create_all(connection, added)
    connection.execute(schema.schema_version.insert(), {"version": schema.VERSION})
    _forbid_changes(connection, added)


def _forbid_changes(connection: Connection, tables: Iterable[Table]) -> None:
    if connection.dialect.name == "sqlite":
        for table in tables:
            for verb in ("UPDATE", "DELETE"):
                connection.exec_driver_sql(
                    f"CREATE TRIGGER {table.name}_no_{verb.lower()} BEFORE {verb} ON {table.name} "
                    f"BEGIN SELECT RAISE(ABORT, 'the result database is append-only'); END"
                )
