"""Files of answers: what is not as the sheet has written it is refused in one sentence that names the file."""

import json

import pytest

from malaria_diffusion.errors import UserError

from .toys import a_key, answered, file_of

KEY = a_key()
GOOD = file_of(KEY, "one", ["real"] * 24)


def changed(**changes):
    return GOOD | changes


def first_answer(**changes):
    return changed(answers=[GOOD["answers"][0] | changes, *GOOD["answers"][1:]])


def test_answers_are_joined_with_the_key(tmp_path):
    table = answered(tmp_path, KEY, GOOD, file_of(KEY, "two", ["synthetic"] * 5))
    assert table["reader"].value_counts().to_dict() == {"one": 24, "two": 5}
    sealed = {cell.id: cell for cell in KEY.cells}
    for row in table.itertuples():
        assert (row.kind, row.label, row.unit) == (sealed[row.id].kind, sealed[row.id].label, sealed[row.id].unit)
        assert row.said_kind == {"one": "real", "two": "synthetic"}[row.reader]


def test_an_empty_folder_is_no_answer(tmp_path):
    (tmp_path / "notes.txt").write_text("by hand")
    assert answered(tmp_path, KEY).empty


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("{", "not as the sheet writes it"),
        ("[]", "not as the sheet writes it"),
        (json.dumps(changed(reader="")), "not as the sheet writes it, found of reader"),
        (json.dumps(first_answer(kind="fake")), r"found of answers\.0\.kind"),
        (json.dumps(first_answer(seconds=-1)), r"found of answers\.0\.seconds"),
        (json.dumps(first_answer(truth="real")), r"found of answers\.0\.truth"),
        (json.dumps(first_answer(id="0123456789abcdef")), "cell '0123456789abcdef', which the sheet does not show"),
        (json.dumps(first_answer(id=GOOD["answers"][1]["id"])), "two answers to cell"),
        (json.dumps(first_answer(label="ILL")), r"class 'ILL', while the sheet offers \['ill', 'well'\]"),
        (json.dumps(changed(answers=[])), "no cell is answered"),
        (json.dumps(changed(reader="all readers")), "give another name"),
        (json.dumps(file_of(a_key(seed=6), "one", ["real"])), "of the sheet .* while the key is of"),
        (json.dumps(file_of(a_key(margin=0.2), "one", ["real"])), "of the sheet .* while the key is of"),
    ],
)
def test_a_file_that_is_not_as_the_sheet_writes_it_is_named(tmp_path, file, said):
    with pytest.raises(UserError, match=rf"{tmp_path}/0\.json: .*{said}") as raised:
        answered(tmp_path, KEY, file)
    assert "\n" not in str(raised.value)


def test_a_second_file_of_a_reader_is_refused_naming_both(tmp_path):
    with pytest.raises(UserError, match=r"1\.json: 0\.json is of reader 'one' as well"):
        answered(tmp_path, KEY, GOOD, file_of(KEY, "one", ["synthetic"] * 3))
