"""Phantom cells: reproducible, in NLM's layout, and separable by structure rather than by colour."""

import io
import itertools
import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from malaria_diffusion.cells.phantom.draw import PhantomCell, PhantomParameters, phantom_cells, write_phantom_archive

NAME = re.compile(
    r"(C\d+P\d+thinF|C\d+_thinF|C47P8thin_Original_Motic|C47P8thinOriginalOlympusCX21)"
    r"_IMG_2015\d{4}_\d{6}a?_cell_\d+"
)
SMALL = PhantomParameters(infected_people=9, healthy_people=3, cells_per_person=8)


@pytest.fixture(scope="module")
def cells() -> list[PhantomCell]:
    return list(phantom_cells(SMALL))


def same(one: PhantomCell, other: PhantomCell) -> bool:
    drawn = [(one.image, other.image), (one.parasite_mask, other.parasite_mask)]
    facts = [(c.name, c.label, c.person) for c in (one, other)]
    return facts[0] == facts[1] and all(np.array_equal(a, b) for a, b in drawn)


def test_same_seed_same_cells(cells):
    assert all(itertools.starmap(same, zip(cells, phantom_cells(SMALL), strict=True)))


def test_another_seed_other_pixels(cells):
    others = phantom_cells(SMALL.model_copy(update={"seed": 1}))
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(cells, others, strict=True))


def test_a_cell_does_not_depend_on_how_many_are_drawn(cells):
    fewer = phantom_cells(PhantomParameters(infected_people=2, healthy_people=1, cells_per_person=3))
    by_name = {cell.name: cell for cell in cells}
    assert all(same(cell, by_name[cell.name]) for cell in fewer)


def test_crops_are_cells_on_black(cells):
    for cell in cells:
        height, width, channels = cell.image.shape
        assert channels == 3
        assert cell.image.dtype == np.uint8
        assert 40 <= min(height, width) <= max(height, width) <= 200
        assert cell.parasite_mask.shape == (height, width)
        assert not cell.image[[0, 0, -1, -1], [0, -1, 0, -1]].any()
        inside = cell.image.any(axis=-1)
        assert 0.6 < inside.mean() < 0.9
        assert inside[cell.parasite_mask].all()


def test_parasites_are_in_the_parasitized_cells_only(cells):
    assert {cell.label for cell in cells} == {"Parasitized", "Uninfected"}
    for cell in cells:
        assert cell.parasite_mask.any() == (cell.label == "Parasitized")
        assert cell.label == "Uninfected" or cell.person.startswith("P")


def test_names_follow_nlm(cells):
    assert all(NAME.fullmatch(cell.name) for cell in cells)
    assert len({cell.name for cell in cells}) == len(cells)
    smears = {person: {NAME.fullmatch(c.name)[1] for c in cells if c.person == person} for person in ("P1", "P8", "C2")}
    assert smears == {
        "P1": {"C40P1thinF"},
        "P8": {"C47P8thin_Original_Motic", "C47P8thinOriginalOlympusCX21"},
        "C2": {"C2_thinF"},
    }
    assert len({cell.name.rsplit("_cell_")[0] for cell in cells if cell.person == "C2"}) > 1


def test_p8s_microscopes_differ(cells):
    def median_width(smear: str) -> float:
        return float(np.median([cell.image.shape[1] for cell in cells if cell.name.startswith(smear)]))

    assert median_width("C47P8thinOriginalOlympusCX21") > 1.15 * median_width("C47P8thin_Original_Motic")


def test_parasites_are_darker_and_more_purple_than_their_cell(cells):
    for cell in cells:
        if cell.label == "Parasitized":
            parasite = cell.image[cell.parasite_mask].mean(axis=0)
            around = cell.image[cell.image.any(axis=-1) & ~cell.parasite_mask].mean(axis=0)
            assert parasite.sum() < around.sum()
            assert parasite[2] / parasite[:2].mean() > around[2] / around[:2].mean()


def test_colour_alone_does_not_tell_the_class_in_unseen_people():
    cells = list(phantom_cells(PhantomParameters(infected_people=24, healthy_people=12, cells_per_person=24)))
    unseen = np.array([int(cell.person[1:]) % 4 == 0 for cell in cells])
    parasitized = np.array([cell.label == "Parasitized" for cell in cells])
    assert 0.45 < parasitized.mean() < 0.55
    pixels = [cell.image[cell.image.any(axis=-1)] for cell in cells]
    ranges = [(0, 256)] * 3
    per_channel = [[np.histogram(p[:, c], 16, (0, 256))[0] / len(p) for c in range(3)] for p in pixels]
    joint = [np.histogramdd(p, 8, ranges)[0] / len(p) for p in pixels]
    for histograms in (np.array(per_channel), np.array(joint)):
        colours = histograms.reshape(len(cells), -1)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=500))
        model.fit(colours[~unseen], parasitized[~unseen])
        assert model.score(colours[unseen], parasitized[unseen]) <= 0.80


def test_archive_holds_the_cells_in_nlms_layout(tmp_path):
    parameters = PhantomParameters(infected_people=2, healthy_people=1, cells_per_person=3)
    path = write_phantom_archive(parameters, tmp_path / "new" / "cell_images.zip")
    again = write_phantom_archive(parameters, tmp_path / "again.zip")
    assert path.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.zip", "new"]
    with zipfile.ZipFile(path) as archive:
        drawn = {f"cell_images/{cell.label}/{cell.name}.png": cell.image for cell in phantom_cells(parameters)}
        thumbs = {f"cell_images/{label}/Thumbs.db" for label in ("Parasitized", "Uninfected")}
        assert set(archive.namelist()) == thumbs | set(drawn)
        for name, image in drawn.items():
            png = Image.open(io.BytesIO(archive.read(name)))
            assert (png.format, png.mode) == ("PNG", "RGB")
            assert np.array_equal(np.asarray(png), image)


def test_a_failed_archive_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("malaria_diffusion.cells.phantom.draw.zipfile.ZipFile.writestr", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_phantom_archive(SMALL, tmp_path / "cell_images.zip")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"infected_people": 0}, {"cells_per_person": 0}, {"seed": -1}, {"people": 3}])
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        PhantomParameters(**wrong)
