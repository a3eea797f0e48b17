"""What readers send back, held against the key."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.reader.key import Key, Kind

ALL = "all readers"  # whose scores come first
REMEDY = "ask the reader for the file as the sheet has written it"


class Answer(BaseModel, extra="forbid", frozen=True):
    """What a reader says of one cell, and the seconds it was looked at."""

    id: str
    kind: Kind
    label: str
    seconds: float = Field(ge=0, allow_inf_nan=False)


class AnswerFile(BaseModel, extra="forbid", frozen=True):
    """What one reader has downloaded from a sheet, named by its key's commitment."""

    sheet: str
    reader: str = Field(min_length=1)
    answers: list[Answer]


def read_answers(folder: Path, key: Key) -> pd.DataFrame:
    """All answers in a folder of JSON files, one a reader.

    Returns:
        One row an answer: reader, id, said_kind, said_label, seconds; and of the key kind, label and unit. No row where
        there is no file yet.

    Raises:
        UserError: a file is of another sheet or not as the sheet has written it, has no answer, or is the second one
            of a reader.
    """
    sealed = pd.DataFrame([cell.model_dump(exclude={"row"}) for cell in key.cells])
    of_reader: dict[str, Path] = {}
    tables = []
    for path in sorted(folder.glob("*.json")):
        found = _read(path)
        _check(path, found, key)
        if (other := of_reader.setdefault(found.reader, path)) != path:
            raise UserError(
                f"{path}: {other.name} is of reader {found.reader!r} as well; keep the later one of the two"
            )
        table = pd.DataFrame([answer.model_dump() for answer in found.answers])
        table = table.rename(columns={"kind": "said_kind", "label": "said_label"})
        tables.append(table.assign(reader=found.reader).merge(sealed, on="id", validate="one_to_one"))
    columns = ["reader", "id", "said_kind", "said_label", "seconds", "kind", "label", "unit"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _read(path: Path) -> AnswerFile:
    try:
        return AnswerFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: not as the sheet writes it, found of {where}: {first['msg']}; {REMEDY}") from error


def _check(path: Path, found: AnswerFile, key: Key) -> None:
    if found.sheet != key.commitment:
        raise UserError(
            f"{path}: of the sheet {found.sheet[:8]!r}, while the key is of {key.commitment[:8]!r}: score it with the "
            "key that was made with its sheet, unchanged"
        )
    if found.reader == ALL:
        raise UserError(f"{path}: the reader is called {ALL!r}, as all are together; give another name in the file")
    if not found.answers:
        raise UserError(f"{path}: no cell is answered; {REMEDY}, or move it away")
    known = {cell.id for cell in key.cells}
    seen = set[str]()
    for answer in found.answers:
        if answer.id not in known:
            raise UserError(f"{path}: an answer to cell {answer.id!r}, which the sheet does not show; {REMEDY}")
        if answer.id in seen:
            raise UserError(f"{path}: two answers to cell {answer.id!r}; {REMEDY}")
        if answer.label not in key.classes:
            raise UserError(f"{path}: class {answer.label!r}, while the sheet offers {key.classes}; {REMEDY}")
        seen.add(answer.id)
