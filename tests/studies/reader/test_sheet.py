"""The sheet: pixels and names without meaning, and nothing that tells one kind from the other."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.reader.key import draw_key
from malaria_diffusion.studies.reader.sheet import encode, render_sheet

from .toys import PARAMETERS, of_model, of_people

STUDY, SYNTHETIC = of_people(6, 4), of_model(20)
KEY = draw_key(STUDY.part("test"), SYNTHETIC, PARAMETERS)
HTML = render_sheet(KEY, STUDY, SYNTHETIC, PARAMETERS)


def shown(html=HTML):
    (found,) = re.findall(r'<script type="application/json" id="study">(.*?)</script>', html, re.DOTALL)
    return json.loads(found)


def test_every_cell_of_the_key_is_shown_in_its_order_with_its_pixels():
    cells = shown()["cells"]
    assert [cell["id"] for cell in cells] == [cell.id for cell in KEY.cells]
    for cell, sealed in zip(cells, KEY.cells, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(cell["png"]))))
        side = STUDY if sealed.kind == "real" else SYNTHETIC
        np.testing.assert_array_equal(pixels.transpose(2, 0, 1), side.images[sealed.row])


def test_a_sheet_has_no_kind_class_person_name_or_seed_of_a_cell():
    study = shown()
    assert study.keys() == {"sheet", "classes", "practice", "cells"}
    assert all(cell.keys() == {"id", "png"} for cell in study["cells"])
    assert study["sheet"] == KEY.commitment
    hidden = [KEY.secret, KEY.model, KEY.cells_fingerprint, *set(STUDY.people), *set(STUDY.table["name"])]
    assert not [word for word in hidden if word in HTML]


def test_the_seed_is_not_in_the_sheet():
    marked = PARAMETERS.model_copy(update={"seed": 918273645})
    key = draw_key(STUDY.part("test"), SYNTHETIC, marked)
    assert "918273645" not in render_sheet(key, STUDY, SYNTHETIC, marked)


def test_flat_images_and_noise_are_files_of_one_length_without_metadata():
    flat, noise = np.zeros((3, 8, 8), np.uint8), SYNTHETIC.images[0]
    assert len(encode(flat)) == len(encode(noise))
    for image in (flat, noise):
        png, chunks, at = encode(image), [], 8
        while at < len(png):
            chunks.append(png[at + 4 : at + 8])
            at += 12 + int.from_bytes(png[at : at + 4])
        assert chunks == [b"IHDR", b"IDAT", b"IEND"]
    assert len({(len(cell["png"]), len(cell["id"])) for cell in shown()["cells"]}) == 1


def test_practice_shows_training_people_s_cells_with_their_class_and_no_other_cell_has_one():
    practice = shown(render_sheet(KEY, STUDY, SYNTHETIC, PARAMETERS.model_copy(update={"practice": 2})))["practice"]
    assert [one["label"] for one in practice] == ["ill", "well", "ill", "well"]
    train = {base64.b64encode(encode(image)).decode() for image in STUDY.part("train").pixels}
    assert {one["png"] for one in practice} <= train
    assert shown(render_sheet(KEY, STUDY, SYNTHETIC, PARAMETERS.model_copy(update={"practice": 0})))["practice"] == []
    with pytest.raises(UserError, match="asks for 99 training cells of each class, found 24"):
        render_sheet(KEY, STUDY, SYNTHETIC, PARAMETERS.model_copy(update={"practice": 99}))


def test_the_sheet_may_reach_nothing_but_itself():
    assert "default-src 'none'; img-src data:;" in HTML
    assert not re.findall(r"""(?:src|href|action)=["']?(?!data:)[\w/]""", HTML.split('id="study"')[0])
    assert not re.findall(r"https?://|fetch\(|XMLHttpRequest|sendBeacon", HTML)


def test_class_names_cannot_break_the_page():
    names = ["</script><b>", 'we"ll & so']
    study, synthetic = of_people(6, 4, names), of_model(20, names)
    key = draw_key(study.part("test"), synthetic, PARAMETERS)
    html = render_sheet(key, study, synthetic, PARAMETERS)
    assert shown(html)["classes"] == names
    assert html.count("</script>") == HTML.count("</script>")
