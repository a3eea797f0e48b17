"""Splits: no person on two sides, and nobody's side depends on anybody else."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.split import (
    SPLITS,
    SplitParameters,
    assign_splits,
    cell_names,
    check_splits,
    keyed_uniform,
    person_of,
    strata,
    training_rows,
)

NLM = [r"^C\d+(P\d+)thin", r"^(.+?)_IMG_"]
BY_PERSON = SplitParameters(
    strategy="person",
    person_patterns=NLM,
    smear_pattern=r"^(.+?)_IMG_",
    val_fraction=0.15,
    test_fraction=0.2,
    audit_fraction=0.05,
    seed=0,
)
BY_CELL = BY_PERSON.model_copy(update={"strategy": "cell"})
NO_PEOPLE = BY_PERSON.model_copy(update={"person_patterns": []})
ALL = pytest.mark.parametrize("parameters", [BY_PERSON, BY_CELL, NO_PEOPLE], ids=["person", "cell", "no people"])


def cells(infected: int = 100, healthy: int = 50, per_person: int = 20) -> pd.DataFrame:
    """Names in NLM's style: an infected person has cells of both classes, a healthy one uninfected cells only."""
    people = [(f"C{k + 30}P{k}thinF", ["Parasitized", "Uninfected"]) for k in range(infected)]
    people += [(f"C{k}_thinF", ["Uninfected"]) for k in range(healthy)]
    rows = [
        (f"{smear}_IMG_20150619_{k // 4:06d}a_cell_{k}.png", labels[k % len(labels)])
        for smear, labels in people
        for k in range(per_person)
    ]
    return in_class_folders(pd.DataFrame(rows, columns=["name", "label"]))


def in_class_folders(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(path=table["label"] + "/" + table["name"])


def by_cell(table: pd.DataFrame) -> dict[tuple[str, str], tuple[str, bool]]:
    """Split and audit of each cell, whatever its file type."""
    stems = table["name"].str.rsplit(".", n=1).str[0]
    return dict(
        zip(zip(stems, table["label"], strict=True), zip(table["split"], table["audit"], strict=True), strict=True)
    )


def agree(some: pd.DataFrame, others: pd.DataFrame) -> bool:
    one, two = by_cell(some), by_cell(others)
    common = one.keys() & two.keys()
    assert len(common) == min(len(one), len(two))
    return all(one[cell] == two[cell] for cell in common)


def within_binomial(found: int, count: int, share: float) -> bool:
    return abs(found - count * share) < 4 * np.sqrt(count * share * (1 - share))


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("C33P1thinF_IMG_20150619_114756a_cell_179.png", "P1"),
        ("C47P8thin_Original_Motic_IMG_20150714_094729_cell_1.png", "P8"),
        ("C47P8thinOriginalOlympusCX21_IMG_20150714_100331_cell_2.png", "P8"),
        ("C48P80thinF_IMG_20150714_100331_cell_2.png", "P80"),
        ("C1_thinF_IMG_20150604_104722_cell_9.png", "C1_thinF"),
        ("C130_thinF_IMG_20150604_104722_cell_9.png", "C130_thinF"),
    ],
)
def test_nlm_names_tell_the_person(name, person):
    assert person_of(name, NLM) == person


def test_every_style_of_nlm_names_keeps_people_apart():
    smears = ["C33P1thinF", "C100P61ThinF", "C101P62ThinF", "C68P29N_ThinF", "C12NThinF", "C13NThinF", "C1_thinF"]
    people = {
        person_of(f"{smear}_IMG_20150918_{k}44104_cell_{k}.png", NLM): smear for smear in smears for k in range(1, 4)
    }
    assert sorted(people.values()) == sorted(smears)


def test_both_smears_of_p8_are_one_person_on_one_side():
    extra = pd.DataFrame(
        {
            "name": [
                f"{smear}_IMG_20150714_{k:06d}_cell_{k}.png"
                for smear in ("C47P8thin_Original_Motic", "C47P8thinOriginalOlympusCX21")
                for k in range(20)
            ],
            "label": ["Parasitized", "Uninfected"] * 20,
        }
    )
    table = cells()
    table = in_class_folders(pd.concat([table[~table["name"].str.contains("P8thin")], extra], ignore_index=True))
    result = assign_splits(table, BY_PERSON)
    p8 = result[result["person"] == "P8"]
    assert len(p8) == 40
    assert p8["split"].nunique() == 1
    assert set(p8["smear"]) == {"C47P8thin_Original_Motic", "C47P8thinOriginalOlympusCX21"}


@pytest.mark.parametrize("seed", range(8))
def test_nobody_is_on_two_sides(seed):
    table = cells(150, 100, 5)
    result = assign_splits(table, BY_PERSON.model_copy(update={"seed": seed}))
    assert result["person"].nunique() == 250
    assert (result.groupby("person")["split"].nunique() == 1).all()
    assert set(result["split"]) == set(SPLITS)
    assert result[table.columns].equals(table)


@ALL
@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_a_subsample_is_split_as_the_whole(parameters, share):
    table = cells()
    whole = assign_splits(table, parameters)
    part = table.sample(frac=share, random_state=1)
    assert agree(assign_splits(part, parameters), whole)


@ALL
def test_other_people_change_nobodys_side(parameters):
    assert agree(assign_splits(cells(100, 50), parameters), assign_splits(cells(160, 90), parameters))


@ALL
def test_the_order_of_files_changes_nothing(parameters):
    table = cells()
    assert agree(assign_splits(table, parameters), assign_splits(table.iloc[::-1], parameters))


@ALL
@pytest.mark.parametrize("extension", [".webp", ".jpeg", ""])
def test_the_file_type_changes_nobodys_side(parameters, extension):
    table = cells()
    renamed = table.assign(name=table["name"].str.replace(".png", extension, regex=False))
    result, other = assign_splits(table, parameters), assign_splits(renamed, parameters)
    assert result["split"].tolist() == other["split"].tolist()
    assert result["audit"].tolist() == other["audit"].tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fractions_hold_over_many_people_and_within_each_stratum(seed):
    result = assign_splits(cells(1000, 1000, 4), BY_PERSON.model_copy(update={"seed": seed}))
    sides = result.groupby("person")["split"].first()
    stratum = strata(result)
    assert stratum.value_counts().to_dict() == {"Parasitized+Uninfected": 1000, "Uninfected": 1000}
    for part in (sides, *(sides[stratum == name] for name in stratum.unique())):
        for split, share in {"train": 0.65, "val": 0.15, "test": 0.2}.items():
            assert within_binomial((part == split).sum(), len(part), share)


def test_another_seed_gives_another_split():
    one, other = (assign_splits(cells(), BY_PERSON.model_copy(update={"seed": seed})) for seed in (0, 1))
    assert 0.1 < (one["split"] != other["split"]).mean() < 0.9
    both_train = (one["split"] == "train") & (other["split"] == "train")
    assert (one["audit"] != other["audit"])[both_train].any()


@ALL
def test_audit_cells_are_a_few_of_the_training_side_and_never_trained_on(parameters):
    result = assign_splits(cells(400, 200, 10), parameters)
    assert result["audit"].dtype == bool
    train = result["split"] == "train"
    assert not result.loc[~train, "audit"].any()
    assert within_binomial(result["audit"].sum(), train.sum(), 0.05)
    assert not (training_rows(result) & result["audit"]).any()
    assert (training_rows(result) | result["audit"]).equals(train)


def test_without_audit_all_of_the_training_side_is_trained_on():
    result = assign_splits(cells(), BY_PERSON.model_copy(update={"audit_fraction": 0.0}))
    assert not result["audit"].any()
    assert training_rows(result).sum() == (result["split"] == "train").sum() > 0


def test_by_cell_people_are_on_several_sides():
    result = assign_splits(cells(), BY_CELL)
    assert result["person"].nunique() == 150
    assert (result.groupby("person")["split"].nunique() > 1).mean() > 0.9
    for split, share in {"train": 0.65, "val": 0.15, "test": 0.2}.items():
        assert within_binomial((result["split"] == split).sum(), len(result), share)


def test_without_patterns_every_image_is_its_own_person():
    table = cells(10, 10, 20)
    result = assign_splits(table, NO_PEOPLE)
    assert result["person"].nunique() == len(table) == 400


def test_without_patterns_equal_names_of_two_classes_are_two_people():
    table = pd.DataFrame({"name": [f"{k}.png" for k in range(100)] * 2, "label": ["A"] * 100 + ["B"] * 100})
    assert assign_splits(in_class_folders(table), NO_PEOPLE)["person"].nunique() == 200


def as_divided_by_others() -> pd.DataFrame:
    """Folders train, val and test of class folders, which all number their files from 0."""
    rows = [(f"{part}/{label}/{k}.png", f"{k}.png", label) for part in SPLITS for label in "AB" for k in range(40)]
    return pd.DataFrame(rows, columns=["path", "name", "label"])


@pytest.mark.parametrize("parameters", [NO_PEOPLE, BY_CELL], ids=["no people", "cell"])
def test_equal_names_in_several_folders_are_several_cells(parameters):
    table = as_divided_by_others()
    result = assign_splits(table, parameters.model_copy(update={"person_patterns": []}))
    assert result["person"].nunique() == len(table) == 240
    assert (result.groupby(["label", "name"])["split"].nunique() > 1).mean() > 0.3
    assert cell_names(table).tolist() == table["path"].tolist()


def test_a_person_is_the_same_in_every_folder():
    table = as_divided_by_others()
    patterns = [r"^(\d+)\.png"]
    result = assign_splits(table, BY_PERSON.model_copy(update={"person_patterns": patterns}))
    assert result["person"].nunique() == 40
    assert (result.groupby("person")["split"].nunique() == 1).all()


def test_the_folders_around_the_classes_change_no_cell_whose_name_is_its_own():
    table = cells()
    moved = table.assign(path=np.where(np.arange(len(table)) % 2, "train/", "test/more/") + table["path"])
    assert cell_names(moved).tolist() == (table["label"] + "/" + table["name"]).tolist()
    assert agree(assign_splits(moved, NO_PEOPLE), assign_splits(table, NO_PEOPLE))


def test_a_cell_in_two_file_types_is_one_cell_on_one_side():
    table = cells(60, 60, 5)
    both = in_class_folders(pd.concat([table, table.assign(name=table["name"].str.replace(".png", ".jpg"))]))
    result = assign_splits(both, NO_PEOPLE)
    assert result["person"].nunique() == len(table)
    assert (result.groupby("person")["split"].nunique() == 1).all()


def test_without_a_smear_pattern_no_smear_is_named():
    result = assign_splits(cells(), BY_PERSON.model_copy(update={"smear_pattern": None}))
    assert set(result["smear"]) == {""}


@pytest.mark.parametrize(
    ("name", "patterns"),
    [("thick_smear.png", NLM), ("C1thinF_IMG_1.png", [r"^C\d+(P\d+)?thin"])],
    ids=["no match", "group took no part"],
)
def test_a_name_that_tells_no_person_is_an_error_that_names_it(name, patterns):
    table = in_class_folders(
        pd.DataFrame({"name": ["C2P2thinF_IMG_1.png", name], "label": ["Parasitized", "Uninfected"]})
    )
    with pytest.raises(CellsError, match=rf"{name}: no person found.*split\.person_patterns"):
        assign_splits(table, BY_PERSON.model_copy(update={"person_patterns": patterns}))


def test_a_later_pattern_helps_where_an_earlier_one_took_no_part():
    assert person_of("C1thinF_IMG_1.png", [r"^C\d+(P\d+)?thin", r"^(.+?)_IMG_"]) == "C1thinF"


@pytest.mark.parametrize(
    "table", [cells(2, 1), cells(3, 200), cells(1, 1, 500)], ids=["few", "few infected", "two people"]
)
def test_too_few_people_is_an_error_with_numbers(table):
    people = table["name"].str.split("_IMG_").str[0].nunique()
    with pytest.raises(CellsError, match=rf"too few people.*at least two; there are {people} people") as caught:
        assign_splits(table, BY_PERSON)
    assert any(f"in {split!r}" in str(caught.value) for split in SPLITS)


@pytest.mark.parametrize("people", [0, 1])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("label", ["Parasitized", "Uninfected"])
def test_a_split_with_a_class_of_fewer_than_two_people_is_named(split, label, people):
    result = assign_splits(cells(), BY_PERSON)
    check_splits(result)
    there = (result["split"] == split) & (result["label"] == label)
    left = result.loc[there, "person"].unique()[:people]
    with pytest.raises(CellsError, match=rf"class {label!r} has {people} person\(s\) in {split!r}"):
        check_splits(result[~there | result["person"].isin(left)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"person_patterns": ["^(P"]},
        {"person_patterns": [r"^P\d+"]},
        {"person_patterns": [r"^(C\d+)(P\d+)"]},
        {"smear_pattern": "["},
        {"smear_pattern": "no group"},
        {"strategy": "smear"},
        {"val_fraction": 0},
        {"test_fraction": 0.5},
        {"audit_fraction": -0.1},
        {"seed": -1},
        {"train_fraction": 0.6},
    ],
    ids=str,
)
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        SplitParameters(**(BY_PERSON.model_dump() | wrong))


def test_draws_are_uniform_and_keyed():
    draws = np.array([keyed_uniform(0, "split", f"P{k}") for k in range(10_000)])
    assert 0 <= draws.min() < draws.max() < 1
    assert np.abs(np.histogram(draws, 10, (0, 1))[0] - 1000).max() < 120
    other = [keyed_uniform(0, "audit", f"P{k}") for k in range(10_000)]
    assert abs(np.corrcoef(draws, other)[0, 1]) < 0.04


def test_draws_are_the_same_in_every_release():
    assert keyed_uniform(0, "split", "P8") == 0.30537586561134966
