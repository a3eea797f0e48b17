"""An image says in the standard way that a trained model made it, and those that say so are recognised."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from malaria_diffusion.cells.archive.export import publish
from malaria_diffusion.cells.decode import decode
from malaria_diffusion.cells.marking import TRAINED, XMP

from .test_export import some_images

SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def source_types(xmp):
    return [node.attrib[SOURCE_TYPE] for node in ElementTree.fromstring(xmp).iter() if SOURCE_TYPE in node.attrib]


def encoded(kind, xmp):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"pnginfo": info} if kind == "png" else {"xmp": xmp.encode()}))
    return file.getvalue()


def test_every_published_image_says_that_a_trained_model_made_it(tmp_path):
    publish(some_images(), tmp_path / "images")
    files = list((tmp_path / "images").rglob("*.png"))
    assert len(files) == 5
    for file in files:
        with Image.open(file) as image:
            assert source_types(image.text["XML:com.adobe.xmp"]) == [TRAINED]
            found = image.getxmp()  # as others read it
        assert found["xmpmeta"]["RDF"]["Description"]["DigitalSourceType"] == TRAINED


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_image_of_any_program_that_says_so_counts_as_synthetic(kind):
    assert decode(encoded(kind, XMP), 16).synthetic
    for other in ("algorithmicMedia", "digitalCapture", "compositeWithTrainedAlgorithmicMedia"):
        assert not decode(encoded(kind, XMP.replace("trainedAlgorithmicMedia", other)), 16).synthetic
