"""The nearest real cells of each image, turned, mirrored and shifted as fits best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.signature import Signatures, centre

Embedding = Callable[[NDArray[np.uint8]], NDArray[np.floating]]

TRANSFORMS = tuple(f"{mirror}turned {turn}" for mirror in ("", "mirrored, ") for turn in (0, 90, 180, 270))
SHIFTS = tuple((row, column) for row in (0, -1, 1) for column in (0, -1, 1))
SHORT_LIST = 20
NEIGHBOURS = 10
SIDE = 16  # images are averaged to it for the search
AT_ONCE = 64


class Nearest(NamedTuple):
    """Of each query (N,) the member that stands out most, and by how much (relative); and distances to matched sets,
    (draws, synthetic cells).
    """

    member: NDArray[np.int64]
    distance: NDArray[np.float64]
    relative: NDArray[np.float64]
    transform: NDArray[np.int64]
    shift: NDArray[np.int64]
    to_member: NDArray[np.float64]
    to_unseen: NDArray[np.float64]
    wins: NDArray[np.float64]
    owner: NDArray[np.int64]


def dihedral(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cells (..., S, S) turned and mirrored in all eight ways, in the order of `TRANSFORMS`: (8, ..., S, S)."""
    return np.stack([np.rot90(x, turns, axes=(-2, -1)) for x in (cells, cells[..., ::-1]) for turns in range(4)])


def pixel_vectors(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels of cells (B, 3, S, S), centred and averaged to 16 x 16 pixels if they have more: (B, D)."""
    size = cells.shape[-1]
    side = min(size, SIDE)
    edges, pixels = np.linspace(0, size, side + 1), np.arange(size)
    share = np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0, 1)
    share = (share * side / size).astype(np.float32)
    small: NDArray[np.float32] = share @ _centred(cells).astype(np.float32) @ share.T
    return small.reshape(len(cells), -1)


class Space(NamedTuple):
    """In which distances are measured.

    Attributes:
        name: In results.
        embed: From images to vectors.
        shifted: Whether the nearest ones are compared with shifts too, which only pixels know, and near copies are
            looked for by their signatures.
    """

    name: str
    embed: Embedding
    shifted: bool = False


class Matched(NamedTuple):
    """As many members as non-members, drawn anew several times, to which the first queries are compared.

    Attributes:
        draws: Of each draw the rows of the members and of the non-members.
        people: Whose each member and then each non-member is, as numbers.
        n: Queries that are compared.
    """

    draws: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
    people: NDArray[np.int64]
    n: int


def nearest_cells(
    queries: NDArray[np.uint8], members: NDArray[np.uint8], unseen: NDArray[np.uint8], space: Space, sets: Matched
) -> Nearest:
    """Distances of all queries to members; of the first of them also to the matched sets.

    All pairs by expanded squares, as one matrix product, which is fast; the nearest ones again by differences, which is
    exact, and if the space knows shifts with these. There a member that stands out more by its signature takes the
    place of the nearest, see `Signatures`.
    """
    embed, shifted = space.embed, members if space.shifted else None
    count, many = len(members), 8 * AT_ONCE
    parts = [cells[k : k + many] for cells in (members, unseen) for k in range(0, len(cells), many)]
    base = np.concatenate([_vectors(embed, part, space.name) for part in parts])
    centre = base.mean(axis=0)
    base -= centre
    squares = np.einsum("md,md->m", base, base)
    alike = 1e-6 * float(squares.mean())  # rounding errors of expanded squares are about as large

    signatures = Signatures(base[:count], members) if space.shifted else None
    nearest, matched = [], []
    with tqdm(total=len(queries), desc=f"nearest cells ({space.name})", unit="cell") as bar:
        for start in range(0, len(queries), AT_ONCE):
            block = dihedral(queries[start : start + AT_ONCE])
            shape = block.shape[:2]
            turned = _vectors(embed, block.reshape(-1, *block.shape[2:]), space.name).reshape(*shape, -1) - centre
            own = np.einsum("tbd,tbd->tb", turned, turned)
            d2 = np.full((shape[1], len(base)), np.inf, dtype=np.float32)
            for one, square in zip(turned, own, strict=True):
                product = one @ base.T
                product *= -2
                product += squares
                product += square[:, None]
                np.minimum(d2, product, out=d2)
            d2 = d2.clip(min=0)
            listed = min(SHORT_LIST, count)
            short = np.argpartition(d2[:, :count], listed - 1, axis=1)[:, :listed]
            found = _nearest_of(short, _exactly(block, turned, own, base, short, shifted))
            if signatures is not None:
                member, relative = signatures.nearest(turned, block[0], NEIGHBOURS)
                other = _exactly(block, turned, own, base, member[:, None], shifted)
                instead = (member, other[0][:, 0], relative, other[1][:, 0], other[2][:, 0])
                chosen = relative < found[2]
                found = tuple(np.where(chosen, new, old) for new, old in zip(instead, found, strict=True))
            nearest.append(found)
            if start < sets.n:
                matched.append(_matched(d2[: sets.n - start], sets, count, alike, base.shape[1]))
            bar.update(shape[1])
    return Nearest(
        *(np.concatenate(column) for column in zip(*nearest, strict=True)),
        *(np.concatenate(column, axis=1) for column in zip(*matched, strict=True)),
    )


def _centred(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cells moved by whole pixels, so that the centre of what differs from the border is in the middle."""
    size = cells.shape[-1]
    rows, columns = ((np.arange(size) + np.rint(off).astype(int)[:, None]) % size for off in centre(cells))
    image, channel = np.ogrid[: len(cells), :3]
    at = (image[..., None, None], channel[..., None, None], rows[:, None, :, None], columns[:, None, None, :])
    shifted: NDArray[np.uint8] = cells[at]
    return shifted


def _vectors(embed: Embedding, cells: NDArray[np.uint8], space: str) -> NDArray[np.float32]:
    vectors = np.asarray(embed(cells), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(cells) or not np.isfinite(vectors).all():
        raise UserError(
            f"the features of space {space!r} must be finite, one row for each of {len(cells)} cells; found shape "
            f"{vectors.shape}, {int((~np.isfinite(vectors)).sum())} values not finite"
        )
    return vectors


def _exactly(
    block: NDArray[np.uint8],
    turned: NDArray[np.float32],
    own: NDArray[np.float32],
    base: NDArray[np.float32],
    short: NDArray[np.int64],
    shifted: NDArray[np.uint8] | None,
) -> tuple[NDArray[Any], ...]:
    """Distance, transform and shift of each member of a short list, (B, K) each."""
    rows = np.arange(len(short))[:, None]
    there = base[short]
    transform = (own.T[:, :, None] - 2 * turned.transpose(1, 0, 2) @ there.transpose(0, 2, 1)).argmin(axis=1)
    if shifted is None:
        distance = np.sqrt(np.square(turned[transform, rows] - there, dtype=np.float64).mean(axis=2))
        shift = np.zeros_like(short)
    else:
        first, second = block[transform, rows].astype(np.float32), shifted[short].astype(np.float32)
        d2 = np.stack([_shifted_square(first, second, *step) for step in SHIFTS])
        shift = d2.argmin(axis=0)
        distance = np.sqrt(d2.min(axis=0).astype(np.float64))
    return distance, transform, shift


def _nearest_of(short: NDArray[np.int64], compared: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
    """Of a short list (B, K): the nearest member, its distance, relative distance, transform and shift, (B,) each."""
    distance, transform, shift = compared
    at = (np.arange(len(short)), distance.argmin(axis=1))
    others = np.sort(distance, axis=1)[:, 1:NEIGHBOURS].mean(axis=1)
    # where all members are alike, none is closer than others
    relative = np.divide(distance[at], others, out=np.ones(len(short)), where=others > 0)
    return short[at], distance[at], relative, transform[at], shift[at]


def _shifted_square(
    first: NDArray[np.float32], second: NDArray[np.float32], row: int, column: int
) -> NDArray[np.float32]:
    """Mean square difference of images (..., 3, S, S), the first one shifted, where they overlap."""
    size = first.shape[-1]
    here, there = zip(
        *(
            (slice(max(0, -step), size - max(0, step)), slice(max(0, step), size + min(0, step)))
            for step in (row, column)
        ),
        strict=True,
    )
    difference = first[..., *here] - second[..., *there]
    total: NDArray[np.float32] = np.einsum("bkcij,bkcij->bk", difference, difference)
    return total / np.float32(difference[0, 0].size)


def _matched(
    d2: NDArray[np.float32],
    sets: Matched,
    count: int,
    alike: float,
    dimensions: int,
) -> tuple[NDArray[Any], ...]:
    """Distances to the nearest of the drawn members and non-members, who is nearer, and whose cell that is."""
    draws, people = sets.draws, sets.people
    result = np.empty((4, len(draws), len(d2)))
    rows = np.arange(len(d2))
    for place, (chosen, held_out) in enumerate(draws):
        seen, new = d2[:, chosen], d2[:, count + held_out]
        i, j = seen.argmin(axis=1), new.argmin(axis=1)
        near, far = seen[rows, i].astype(np.float64), new[rows, j].astype(np.float64)
        wins = np.where(np.abs(near - far) <= alike, 0.5, near < far)
        owner = np.where(near <= far, people[chosen[i]], people[count + held_out[j]])
        result[:, place] = np.sqrt(near / dimensions), np.sqrt(far / dimensions), wins, owner
    return (*result[:3], result[3].astype(np.int64))
