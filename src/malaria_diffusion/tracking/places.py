"""Where MLflow keeps runs in a project: in its folder, wherever a command is given and wherever the folder has gone."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy

logger = logging.getLogger(__name__)

ARTEFACTS = "mlruns"
# what MLflow stores absolute paths in
COLUMNS = [
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
]


def database_file(uri: str) -> Path | None:
    """The file of an SQLite database; None of any other place."""
    if not uri.startswith("sqlite"):
        return None
    database = sqlalchemy.make_url(uri).database
    return Path(database) if database and database != ":memory:" else None


def in_project(uri: str, project: Path) -> str:
    """`uri`, where it is a relative file that of the project, and not of the folder that a command is given in."""
    file = database_file(uri)
    if file is None or file.is_absolute():
        return uri
    return sqlalchemy.make_url(uri).set(database=str(project / file)).render_as_string(hide_password=False)


def follow(uri: str, project: Path) -> None:
    """Lead the paths in the project's own database to where the project is, if it was renamed, moved or copied.

    MLflow stores absolute ones: artefacts of a copy's runs would be written among those of the original.
    """
    file = database_file(uri)
    if file is None or not file.is_file() or file.parent != project:
        return
    now = f"{project / ARTEFACTS}/"
    with closing(sqlite3.connect(file)) as database, database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
            return
        rows = database.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        ends = [(location, f"/{ARTEFACTS}/{number}") for number, location in rows]
        before = {location.removesuffix(end) + f"/{ARTEFACTS}/" for location, end in ends if location.endswith(end)}
        for old in sorted(before - {now}):
            for table, column in COLUMNS:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (now, len(old) + 1, len(old), old),
                )
            logger.info("the project was at %s: its MLflow runs keep their artefacts in %s now", Path(old).parent, now)
