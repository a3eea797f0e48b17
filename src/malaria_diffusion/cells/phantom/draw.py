"""Phantom cells: drawn stand-ins for the single-cell crops of NLM's malaria thin smears.

A cell is drawn as stained matter that absorbs light (Beer-Lambert): a cytoplasm with central pallor, then parasites
and confounders. Both kinds of purple matter are drawn with the same two absorbances and in similar amounts, so the
colour of a crop says little about its class, and its structure says nearly all: a ring or an amoeboid body with a
vacuole and a chromatin dot is a parasite; solid debris, a platelet at the rim and a bright highlight are not.

Every random draw is keyed by what it describes (a person's stain, a smear's microscope, a capture's lamp, a cell), so
any subset of the cells can be redrawn on its own.
"""

import math
import multiprocessing
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from tqdm.auto import tqdm

from malaria_diffusion.cells.decode import PHANTOM_KEY
from malaria_diffusion.config import Parameters
from malaria_diffusion.files import whole

PARASITIZED = "Parasitized"
UNINFECTED = "Uninfected"

_ZIP_TIME = (2018, 1, 1, 0, 0, 0)
_GREY_STEP = 8  # pixel values are multiples of this: keeps the archive small and the pixels equal across machines
_RADIUS_RANGE = (24.0, 88.0)  # in pixels; with the outline's irregularity the crops stay within 40 to 200 pixels

# Absorbance per channel (R, G, B), at full density, of cytoplasm, parasite bodies (and pale debris) and chromatin.
_ABSORBANCE = np.array([[0.14, 0.36, 0.32], [0.42, 0.62, 0.16], [0.75, 1.10, 0.42]])

# cells that one process draws sooner than others start
_FEW = 500

_Floats = NDArray[np.float64]


class PhantomParameters(Parameters):
    """How many phantom cells there are, and of whom.

    About three quarters of an ever-infected person's cells are parasitized, so twice as many infected as healthy
    people balance the classes. Person P8 exists, and is photographed with two microscopes, from 8 infected people on.
    """

    seed: int = Field(default=0, ge=0)
    infected_people: int = Field(default=50, ge=1)
    healthy_people: int = Field(default=25, ge=1)
    cells_per_person: int = Field(default=80, ge=1)


@dataclass(frozen=True)
class PhantomCell:
    """One drawn crop: `image` is uint8 (H, W, 3), black outside the cell; H and W lie in 40..200.

    `parasite_mask` is bool (H, W): True on a parasite's cytoplasm and chromatin, all False for an uninfected cell.
    `label` is "Parasitized" or "Uninfected"; `name` is the file's stem in NLM's naming; `person` is like "P8" for
    ever-infected and "C12" for never-infected people.
    """

    name: str
    label: str
    person: str
    image: NDArray[np.uint8]
    parasite_mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Microscope:
    magnification: float
    blur: float
    tint: tuple[float, float, float]


_USUAL = _Microscope(1.0, 0.75, (1.0, 1.0, 1.0))
_P8_SMEARS = {
    "C47P8thin_Original_Motic": _Microscope(0.85, 0.55, (1.03, 1.0, 0.94)),
    "C47P8thinOriginalOlympusCX21": _Microscope(1.15, 1.0, (0.92, 0.96, 1.0)),
}


@dataclass(frozen=True)
class _Person:
    name: str
    infected: bool
    smears: tuple[str, ...]


@dataclass(frozen=True)
class _Look:
    """How one capture shows a person's cells: radius and blur in pixels, absorbance (3, 3) as in `_ABSORBANCE`."""

    name: str
    radius: float
    blur: float
    pallor: float
    absorbance: _Floats
    lamp: _Floats
    tilt: _Floats
    noise: float


@dataclass(frozen=True)
class _Shape:
    """A closed curve around `at`: its radius at angle a is `radius` * (1 + sum of waves * cos(n a + phases))."""

    at: _Floats
    radius: float
    waves: _Floats
    phases: _Floats

    def reach(self, angle: _Floats) -> _Floats:
        order = np.arange(2, 2 + len(self.waves)).reshape(-1, *[1] * angle.ndim)
        waves, phases = self.waves.reshape(order.shape), self.phases.reshape(order.shape)
        radii: _Floats = self.radius * (1 + np.sum(waves * np.cos(order * angle + phases), axis=0))
        return radii


def _shape(rng: np.random.Generator, at: _Floats, radius: float, wobble: float) -> _Shape:
    waves = wobble * rng.uniform(0.3, 1.0, 4) / np.array([1.0, 1.5, 2.5, 4.0])
    return _Shape(at, radius, waves, rng.uniform(0, 2 * np.pi, 4))


class _Slide:
    """The matter of one cell, as density maps (H, W) over coordinates `x`, `y` in units of the cell's radius."""

    def __init__(self, x: _Floats, y: _Floats, pixel: float) -> None:
        self.x, self.y, self.pixel = x, y, pixel
        self.cytoplasm, self.body, self.chromatin, self.parasite = np.zeros((4, *x.shape))

    def cover(self, shape: _Shape, softness: float = 1.0) -> _Floats:
        """Share of each pixel inside the shape, its edge `softness` pixels wide."""
        dx, dy = self.x - shape.at[0], self.y - shape.at[1]
        inside = shape.reach(np.arctan2(dy, dx)) - np.hypot(dx, dy)
        share: _Floats = np.clip(0.5 + inside / (softness * self.pixel), 0, 1)
        return share


def _rng(*key: object) -> np.random.Generator:
    entropy = int.from_bytes("/".join(map(str, key)).encode())
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def _people(parameters: PhantomParameters) -> Iterator[_Person]:
    for number in range(1, parameters.infected_people + 1):
        smears = tuple(_P8_SMEARS) if number == 8 else (f"C{number + 39}P{number}thinF",)
        yield _Person(f"P{number}", True, smears)
    for number in range(1, parameters.healthy_people + 1):
        yield _Person(f"C{number}", False, (f"C{number}_thinF",))


def _look(seed: int, person: _Person, smear: str, capture: int) -> _Look:
    stain, scope, light = _rng(seed, person.name), _rng(seed, smear), _rng(seed, smear, capture)
    microscope = _P8_SMEARS.get(smear, _USUAL)
    radius, pallor = 29 * np.exp(stain.normal(0, 0.17)), stain.uniform(0.2, 0.55)
    eosin = stain.normal(0, 0.2) + stain.normal(0, 0.08, 3)
    azure = stain.normal(0, 0.18) + stain.normal(0, 0.15, 3)
    lamp = 232 * np.array(microscope.tint) * np.exp(scope.normal(0, 0.05) + scope.normal(0, 0.03, 3))
    blur, noise = microscope.blur * np.exp(scope.normal(0, 0.2)), scope.uniform(0.7, 1.4)
    day, hour = scope.integers(1, 29), scope.integers(9, 17)
    minute, second = 12 * capture + light.integers(12), light.integers(60)
    suffix = "a" if smear.endswith(f"{person.name}thinF") else ""
    return _Look(
        name=f"{smear}_IMG_2015{scope.integers(6, 9):02}{day:02}_{hour:02}{minute:02}{second:02}{suffix}",
        radius=radius * microscope.magnification,
        blur=blur * np.exp(light.normal(0, 0.12)),
        pallor=pallor,
        absorbance=_ABSORBANCE * np.exp([eosin, azure, azure]),
        lamp=lamp * np.exp(light.normal(0, 0.03)),
        tilt=light.normal(0, 0.03, 2),
        noise=noise,
    )


def _blank_slide(rng: np.random.Generator, look: _Look) -> tuple[_Slide, _Floats]:
    """An unstained slide that fits one cell tightly, and the cell's share of each pixel."""
    radius = float(np.clip(look.radius * np.exp(rng.normal(0, 0.07)), *_RADIUS_RANGE))
    outline = _shape(rng, np.zeros(2), 1.0, 0.05)
    angle = np.linspace(0, 2 * np.pi, 360)
    edge = radius * outline.reach(angle) * np.stack([np.cos(angle), np.sin(angle)])
    columns, rows = (np.arange(math.floor(side.min()), math.ceil(side.max()) + 1) for side in edge)
    slide = _Slide(*np.meshgrid(columns / radius, rows / radius), pixel=1 / radius)
    return slide, slide.cover(outline)


def _fill_cytoplasm(rng: np.random.Generator, slide: _Slide, look: _Look, cell: _Floats) -> None:
    x, y = rng.normal(0, 0.1, 2)
    pallor = look.pallor * np.exp(-((slide.x - x) ** 2 + (slide.y - y) ** 2) / 0.22)
    texture = ndimage.zoom(rng.normal(0, 1, (6, 6)), np.array(slide.x.shape) / 6, order=3, mode="nearest")
    slide.cytoplasm = cell * (1.1 - pallor) * (1 + 0.06 * texture)


def _polar(away: float, angle: float) -> _Floats:
    return away * np.array([np.cos(angle), np.sin(angle)])


def _somewhere(rng: np.random.Generator, reach: float) -> _Floats:
    return _polar(reach * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi))


def _add_chromatin(rng: np.random.Generator, slide: _Slide, at: _Floats, radius: float) -> None:
    dot = slide.cover(_shape(rng, at, radius, 0.15))
    slide.chromatin = np.maximum(slide.chromatin, dot * rng.uniform(0.6, 1.0))
    slide.parasite = np.maximum(slide.parasite, dot)


def _add_body(rng: np.random.Generator, slide: _Slide, body: _Shape, vacuole: _Shape) -> None:
    matter = slide.cover(body) * (1 - slide.cover(vacuole))
    slide.body = np.maximum(slide.body, matter * rng.uniform(0.4, 1.0))
    slide.parasite = np.maximum(slide.parasite, matter)


def _add_ring(rng: np.random.Generator, slide: _Slide, at: _Floats, radius: float) -> None:
    vacuole = _shape(rng, at + rng.uniform(-0.1, 0.1, 2) * radius, rng.uniform(0.55, 0.7) * radius, 0.1)
    _add_body(rng, slide, _shape(rng, at, radius, 0.1), vacuole)
    angle, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 3.1)
    for dot in range(1 + (rng.random() < 0.25)):
        _add_chromatin(rng, slide, at + _polar(0.85 * radius, angle + dot * turn), rng.uniform(0.08, 0.13))


def _add_trophozoite(rng: np.random.Generator, slide: _Slide, at: _Floats) -> None:
    radius, angle = rng.uniform(0.38, 0.5), rng.uniform(0, 2 * np.pi)
    vacuole = _shape(rng, at + _polar(0.25 * radius, angle), rng.uniform(0.42, 0.52) * radius, 0.12)
    _add_body(rng, slide, _shape(rng, at, radius, 0.22), vacuole)
    _add_chromatin(rng, slide, at - _polar(0.55 * radius, angle), rng.uniform(0.12, 0.17))


def _add_parasites(rng: np.random.Generator, slide: _Slide) -> None:
    kind = rng.random()
    if kind < 0.2:
        _add_trophozoite(rng, slide, _somewhere(rng, 0.35))
    elif kind < 0.8:
        _add_ring(rng, slide, _somewhere(rng, 0.55), rng.uniform(0.26, 0.4))
    else:
        count, angle = int(rng.integers(2, 4)), rng.uniform(0, 2 * np.pi)
        for ring in range(count):
            _add_ring(rng, slide, _polar(0.5, angle + ring * 2 * np.pi / count), rng.uniform(0.25, 0.32))


def _add_highlight(rng: np.random.Generator, slide: _Slide, at: _Floats) -> None:
    """A bright refractile spot, often with a thin dark or purple edge."""
    radius = rng.uniform(0.08, 0.2)
    spot = slide.cover(_shape(rng, at, radius, 0.1))
    edge = np.clip(slide.cover(_shape(rng, at, radius + 0.07, 0.1)) - spot, 0, 1)
    for matter in (slide.cytoplasm, slide.body, slide.chromatin):
        matter *= 1 - 0.9 * spot
    dark = slide.cytoplasm if rng.random() < 0.5 else slide.body
    dark += rng.uniform(0, 0.6) * edge


def _add_debris(rng: np.random.Generator, slide: _Slide) -> None:
    """A clump of solid stain in the parasites' colours, sometimes with an air bubble, which outshines a vacuole."""
    at = start = _somewhere(rng, 0.75)
    dark = rng.uniform(0, 0.9) * (rng.random() < 0.6)
    for _ in range(rng.integers(1, 4)):
        radius = rng.uniform(0.08, 0.27)
        grain = slide.cover(_shape(rng, at, radius, 0.25))
        slide.body = np.maximum(slide.body, grain * rng.uniform(0.4, 1.0))
        slide.chromatin = np.maximum(slide.chromatin, grain * dark)
        at = at + rng.normal(0, 0.7, 2) * radius
    if rng.random() < 0.2:
        _add_highlight(rng, slide, start)


def _add_platelet(rng: np.random.Generator, slide: _Slide) -> None:
    """A granular, fuzzy purple blob across the rim of the cell."""
    at = _polar(rng.uniform(0.75, 0.95), rng.uniform(0, 2 * np.pi))
    cover = slide.cover(_shape(rng, at, rng.uniform(0.2, 0.36), 0.15), softness=0.2 / slide.pixel)
    grains = ndimage.gaussian_filter(rng.normal(0, 1, cover.shape), 0.035 / slide.pixel)
    grains = np.clip(0.5 + 0.35 * grains / grains.std(), 0, 1)
    slide.body = np.maximum(slide.body, cover * (0.6 + 0.4 * grains))
    slide.chromatin = np.maximum(slide.chromatin, 0.7 * cover * grains)


def _add_confounders(rng: np.random.Generator, slide: _Slide, infected: bool) -> None:
    debris, platelets = (0.25, 0.15) if infected else (1.1, 0.5)
    if rng.random() < 0.35:
        _add_highlight(rng, slide, _somewhere(rng, 0.7))
    for _ in range(rng.poisson(debris)):
        _add_debris(rng, slide)
    for _ in range(rng.poisson(platelets)):
        _add_platelet(rng, slide)


def _photograph(rng: np.random.Generator, slide: _Slide, look: _Look) -> NDArray[np.uint8]:
    matter = np.stack([slide.cytoplasm, slide.body, slide.chromatin], axis=-1)
    absorbance = np.sum(matter[..., None] * look.absorbance, axis=-2)
    light = ndimage.gaussian_filter(np.exp(-absorbance), look.blur, axes=(0, 1))
    tilt = 1 + look.tilt[0] * slide.x + look.tilt[1] * slide.y
    grey = look.lamp * light * tilt[..., None] / _GREY_STEP
    green = grey[..., 1:2]
    grain = rng.normal(0, look.noise / _GREY_STEP, green.shape)
    # The grain is the same in all channels; rounding their differences without it keeps the archive small.
    levels = np.round(green + grain) + np.round(grey - green)
    image: NDArray[np.uint8] = (np.clip(levels, 1, 255 // _GREY_STEP) * _GREY_STEP).astype(np.uint8)
    return image


def _draw(seed: int, person: _Person, k: int) -> PhantomCell:
    rng = _rng(seed, person.name, "cell", k)
    infected = person.infected and bool(rng.random() < 0.75)
    smear = person.smears[k % len(person.smears)]
    look = _look(seed, person, smear, int(rng.integers(5)))
    slide, cell = _blank_slide(rng, look)
    _fill_cytoplasm(rng, slide, look, cell)
    _add_confounders(rng, slide, infected)
    if infected:
        _add_parasites(rng, slide)
    inside = cell > 0.5
    image = _photograph(rng, slide, look) * inside[..., None]
    return PhantomCell(
        name=f"{look.name}_cell_{k + 1}",
        label=PARASITIZED if infected else UNINFECTED,
        person=person.name,
        image=image,
        parasite_mask=(slide.parasite > 0.5) & inside,
    )


def phantom_cells(parameters: PhantomParameters) -> Iterator[PhantomCell]:
    """Draw the cells, person by person.

    Cell k of a person depends on the seed, the person and k only, not on how many people or cells are drawn.
    """
    for person in _people(parameters):
        for k in range(parameters.cells_per_person):
            yield _draw(parameters.seed, person, k)


def _png(image: NDArray[np.uint8]) -> bytes:
    """The image as an RGB PNG without row filters, which Pillow insists on: on coarse grey levels they only cost."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = np.pad(image.reshape(height, -1), ((0, 0), (1, 0)))
    pixels = zlib.compress(rows.tobytes(), 9)
    note = f"{PHANTOM_KEY}\0drawn, not photographed".encode()  # so that nobody takes it for a patient's cell
    parts = [(b"IHDR", header), (b"tEXt", note), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def _files(parameters: PhantomParameters, person: _Person) -> list[tuple[str, bytes]]:
    """A person's files in the archive: (path, content)."""
    cells = (_draw(parameters.seed, person, k) for k in range(parameters.cells_per_person))
    return [(f"cell_images/{cell.label}/{cell.name}.png", _png(cell.image)) for cell in cells]


def write_phantom_archive(parameters: PhantomParameters, path: str | Path) -> Path:
    """Write the cells as a zip in NLM's layout, `cell_images/{Parasitized,Uninfected}/<name>.png`, and return `path`.

    As in the real archive, each class folder also holds a `Thumbs.db` that is no image. The bytes depend on the
    parameters only. The archive appears whole or not at all; an existing one is replaced.

    Raises:
        OSError: `path` or its folder cannot be written.
    """
    people = list(_people(parameters))
    path = Path(path)
    with whole(path) as beside, zipfile.ZipFile(beside, "w") as archive, ExitStack() as stack:
        for label in (PARASITIZED, UNINFECTED):
            archive.writestr(zipfile.ZipInfo(f"cell_images/{label}/Thumbs.db", _ZIP_TIME), b"not an image")
        draw: Callable[..., Iterable[list[tuple[str, bytes]]]] = map
        if len(people) * parameters.cells_per_person > _FEW:
            spawn = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads may hang
            draw = stack.enter_context(ProcessPoolExecutor(mp_context=spawn)).map
        drawn = draw(partial(_files, parameters), people)
        for files in tqdm(drawn, total=len(people), desc="phantom cells", unit="person"):
            for name, content in files:
                archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)
    return path
