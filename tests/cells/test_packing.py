"""Packing: one aligned memory map and table from any source, in little memory, with every loss accounted for."""

import errno
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from malaria_diffusion.cells import packing
from malaria_diffusion.cells import sources as archive
from malaria_diffusion.cells.decode import decode
from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.packing import PackedCells, PackingParameters, pack_cells
from malaria_diffusion.cells.sources import open_source

SMALL = PackingParameters(size=16)


def png(seed: int, width: int = 20, height: int = 20) -> bytes:
    pixels = np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def some_files(count: int = 12) -> dict[str, bytes]:
    """In no particular order, of two classes and several sizes."""
    order = np.random.default_rng(0).permutation(count)
    return {f"cells/{'AB'[k % 2]}/{k}.png": png(k, 16 + k % 5, 20 - k % 3) for k in order}


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def pack(folder: Path, files: dict[str, bytes], parameters: PackingParameters = SMALL) -> PackedCells:
    return pack_cells(open_source(write_zip(folder / "cells.zip", files)), parameters, folder / "cells.npy")


def test_a_class_folder_without_an_image_is_named(tmp_path):
    for name in ("A", "B", "Empty"):
        (tmp_path / "cells" / name).mkdir(parents=True)
    for name, content in some_files().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "cells" / "Empty" / "Thumbs.db").write_bytes(b"")
    with pytest.raises(CellsError, match="'Empty' holds no image"):
        pack_cells(open_source(tmp_path / "cells"), SMALL, tmp_path / "cells.npy")
    with zipfile.ZipFile(write_zip(tmp_path / "cells.zip", some_files()), "a") as file:
        file.mkdir("cells/Empty")
    with pytest.raises(CellsError, match="'cells/Empty' holds no image"):
        pack_cells(open_source(tmp_path / "cells.zip"), SMALL, tmp_path / "cells.npy")


def reasons(packed: PackedCells) -> dict[str, str]:
    return dict(zip(packed.rejected["path"], packed.rejected["reason"], strict=True))


@pytest.mark.parametrize(
    "parameters",
    [SMALL, PackingParameters(size=24, background=(9, 99, 199)), PackingParameters(size=32, common_side=40)],
    ids=["default", "background", "common_side"],
)
def test_rows_of_array_and_table_are_the_files_in_order(tmp_path, parameters):
    files = some_files()
    packed = pack(tmp_path, files, parameters)
    assert packed.rejected.empty
    assert packed.table["path"].tolist() == sorted(files)
    assert packed.cells.shape == (len(files), 3, parameters.size, parameters.size)
    assert packed.cells.dtype == np.uint8
    for pixels, row in zip(packed.cells, packed.table.itertuples(), strict=True):
        expected = decode(files[row.path], parameters.size, parameters.background, parameters.common_side)
        assert np.array_equal(pixels, expected.pixels)
        assert (row.width, row.height, row.phantom) == (expected.width, expected.height, False)
        assert row.sha256 == hashlib.sha256(files[row.path]).hexdigest()
        assert row.path == f"cells/{row.label}/{row.name}"


def test_zip_and_folder_pack_alike(tmp_path):
    files = some_files()
    from_zip = pack(tmp_path, files)
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    from_folder = pack_cells(open_source(tmp_path / "folder"), SMALL, tmp_path / "new" / "other.npy")
    assert (tmp_path / "new" / "other.npy").read_bytes() == (tmp_path / "cells.npy").read_bytes()
    assert from_zip.table.equals(from_folder.table)


@pytest.mark.parametrize("count", [2, 9, 10, 11, 99, 100, 1000])
def test_the_file_is_an_ordinary_npy_of_any_length(tmp_path, count):
    files = {f"{'AB'[k % 2]}/{k}.png": png(k, 4, 4) for k in range(count)}
    packed = pack(tmp_path, files)
    assert packed.table["path"].tolist() == sorted(files)
    assert isinstance(packed.cells, np.memmap)
    loaded = np.load(tmp_path / "cells.npy")
    assert loaded.shape == (count, 3, 16, 16)
    assert np.array_equal(loaded, packed.cells)
    np.save(tmp_path / "again.npy", loaded)
    assert (tmp_path / "cells.npy").stat().st_size == (tmp_path / "again.npy").stat().st_size


def test_only_the_first_of_identical_files_is_kept(tmp_path):
    files = {"A/1.png": png(1), "A/2.png": png(1), "B/3.png": png(3), "B/4.png": png(4, 20, 19), "more/A/1.png": png(1)}
    packed = pack(tmp_path, files)
    assert packed.table["path"].tolist() == ["A/1.png", "B/3.png", "B/4.png"]
    assert len(packed.cells) == 3
    assert set(reasons(packed)) == {"A/2.png", "more/A/1.png"}
    assert all("byte-identical" in reason and "A/1.png" in reason for reason in reasons(packed).values())


CONFLICTING = {
    "A/1.png": png(1),
    "A/2.png": png(2),
    "A/3.png": png(3),
    "B/0.png": png(3),
    "B/1.png": png(4),
    "C/0.png": png(3),
    "C/1.png": png(5),
}


def test_every_copy_of_a_file_under_two_labels_is_left_out(tmp_path):
    packed = pack(tmp_path, CONFLICTING)
    kept = ["A/1.png", "A/2.png", "B/1.png", "C/1.png"]
    assert packed.table["path"].tolist() == kept
    assert packed.table.index.tolist() == [0, 1, 2, 3]
    assert np.array_equal(packed.cells, [decode(CONFLICTING[path], 16).pixels for path in kept])
    assert list(reasons(packed)) == ["A/3.png", "B/0.png", "C/0.png"]
    assert all(reason.startswith("conflicting labels: the same file as ") for reason in reasons(packed).values())
    assert {path.name for path in tmp_path.iterdir()} == {"cells.zip", "cells.npy"}


def test_a_file_under_two_labels_is_refused_where_that_is_asked_for(tmp_path):
    with pytest.raises(CellsError, match=r"cells\.zip: A/3\.png and B/0\.png are the same file.*conflicting_labels"):
        pack(tmp_path, CONFLICTING, PackingParameters(size=16, conflicting_labels="refuse"))
    assert [path.name for path in tmp_path.iterdir()] == ["cells.zip"]


def test_what_was_packed_before_stays_until_the_new_is_whole(tmp_path, monkeypatch):
    first = pack(tmp_path, some_files())
    before = first.cells.copy()
    with pytest.raises(CellsError, match="conflicting_labels"):
        pack(tmp_path, CONFLICTING, PackingParameters(size=16, conflicting_labels="refuse"))
    with monkeypatch.context() as full:
        full.setattr(packing.npy, "write_array_header_1_0", Mock(side_effect=OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full") as caught:
            pack(tmp_path, some_files(20))
    assert caught.value.filename == str(tmp_path / "cells.npy")
    assert np.array_equal(np.load(tmp_path / "cells.npy"), before)
    second = pack(tmp_path, CONFLICTING)
    assert len(second.cells) == 4
    assert np.array_equal(first.cells, before)  # a memory map of the file that was there
    assert {path.name for path in tmp_path.iterdir()} == {"cells.zip", "cells.npy"}


def grey_16_bit(seed: int, top: int) -> bytes:
    levels = np.random.default_rng(seed).integers(0, top + 1, (20, 20)).astype(np.uint16)
    levels[0, 0] = top
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("tops", "bits"), [((900, 1023), 10), ((300, 4095), 12), ((4096, 300), 14), ((900, 40_000), 16)]
)
def test_16_bit_images_of_a_set_are_scaled_alike_by_its_brightest(tmp_path, tops, bits):
    files = {f"{label}/{k}.tif": grey_16_bit(k, top) for label, top in zip("AB", tops, strict=True) for k in range(3)}
    packed = pack(tmp_path, files | {"A/8 bits.png": png(1)})
    assert packed.bits == bits
    for row, path in enumerate(packed.table["path"]):
        data = (files | {"A/8 bits.png": png(1)})[path]
        assert np.array_equal(packed.cells[row], decode(data, 16, bits=bits).pixels)
    assert len(packed.table) == 7
    assert packed.rejected.empty


def test_without_16_bit_images_there_are_8(tmp_path):
    assert pack(tmp_path, some_files()).bits == 8


OUTSIDE = {f"C/{k}.png": png(90 + k) for k in range(3)}


def linked(folder: Path, whole: bool) -> Path:
    """Class folders A and B, and C, which is a link or holds links to files elsewhere."""
    for root, files in (("cells", {f"{'AB'[k % 2]}/{k}.png": png(k) for k in range(6)}), ("elsewhere", OUTSIDE)):
        for name, content in files.items():
            (folder / root / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / root / name).write_bytes(content)
    if whole:
        (folder / "cells/C").symlink_to(folder / "elsewhere/C", target_is_directory=True)
    else:
        (folder / "cells/C").mkdir()
        for name in OUTSIDE:
            (folder / "cells" / name).symlink_to(folder / "elsewhere" / name)
    return folder / "cells"


@pytest.mark.parametrize("whole", [False, True], ids=["links to files", "a link to the folder"])
def test_a_class_of_links_is_named_or_read_if_they_may_be_followed(tmp_path, whole):
    source = open_source(linked(tmp_path, whole))
    with pytest.raises(CellsError, match=r"folder 'C' .*link that points outside the folder.*follow_links=true"):
        pack_cells(source, SMALL, tmp_path / "cells.npy")
    packed = pack_cells(source, PackingParameters(size=16, follow_links=True), tmp_path / "cells.npy")
    assert packed.table["label"].value_counts().to_dict() == {"A": 3, "B": 3, "C": 3}
    assert packed.rejected.empty


def test_links_beside_files_of_their_class_are_listed(tmp_path):
    cells = linked(tmp_path, whole=False)
    (cells / "C" / "own.png").write_bytes(png(99))
    packed = pack_cells(open_source(cells), SMALL, tmp_path / "cells.npy")
    assert packed.rejected["path"].tolist() == list(OUTSIDE)
    assert all(reason.startswith("a link that points outside") for reason in reasons(packed).values())


def test_a_class_of_too_large_or_encrypted_files_does_not_vanish(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 2**20)
    with pytest.raises(CellsError, match=r"class folder 'C' has no usable image.*file larger than 1 MiB"):
        pack(tmp_path, some_files() | {"C/slide.tif": bytes(2**20 + 1)})
    path = write_zip(tmp_path / "secret.zip", some_files() | {"zz/secret.png": png(1)})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(CellsError, match=r"class folder 'zz' has no usable image.*encrypted"):
        pack_cells(open_source(path), SMALL, tmp_path / "cells.npy")


def test_spaces_umlauts_and_commas_in_paths_and_numbers_as_classes(tmp_path):
    files = {
        f"my, cells ü/{label}/Bär {k}, left.png": png(10 * k + len(label)) for label in ("01", "2, ä") for k in (1, 2)
    }
    packed = pack(tmp_path, files)
    assert packed.table["path"].tolist() == sorted(files)
    assert packed.table["label"].tolist() == ["01", "01", "2, ä", "2, ä"]


def test_a_folder_that_lies_in_itself_once_more_counts_once(tmp_path):
    files = some_files()
    packed = pack(tmp_path, files | {f"cells/{name}": content for name, content in files.items()})
    assert packed.table["label"].value_counts().to_dict() == {"A": 6, "B": 6}
    assert len(packed.rejected) == 12


def test_duplicates_share_one_kind_of_reason(tmp_path):
    """Up to the first colon, as every count of reasons has it: a whole archive may lie in another a second time."""
    files = some_files() | {f"again/{name}": content for name, content in some_files().items()}
    packed = pack(tmp_path, files)
    assert len(packed.rejected) == len(packed.table) == 12
    assert packed.rejected["reason"].str.split(":").str[0].nunique() == 1


def test_bad_files_are_listed_and_the_rest_is_kept(tmp_path):
    black = io.BytesIO()
    Image.new("RGB", (20, 20)).save(black, "PNG")
    bad = {
        "cells/A/0 black.png": (black.getvalue(), "nothing but background"),
        "cells/A/5 empty.png": (b"", "empty file"),
        "cells/A/notes.txt": (b"text", "not an image"),
        "cells/B/0 torn.png": (png(1)[:-100], "unreadable"),
        "cells/B/5 large.png": (png(2, 41, 20), "larger than common_side"),
        "../B/evil.png": (png(3), "path points outside the archive"),
        "lonely.png": (png(4), "not in a class folder"),
    }
    good = some_files()
    files = {name: content for name, (content, _) in bad.items()} | good
    packed = pack(tmp_path, files, PackingParameters(size=16, common_side=40))
    assert packed.table["path"].tolist() == sorted(good)
    assert packed.rejected["path"].tolist() == sorted(bad)
    assert all(reasons(packed)[name].startswith(reason) for name, (_, reason) in bad.items())
    assert np.array_equal(packed.cells[-1], decode(good[sorted(good)[-1]], 16, common_side=40).pixels)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_entry_is_listed_whatever_its_compression(tmp_path, compression):
    files = some_files()
    path = write_zip(tmp_path / "cells.zip", files, compression)
    victim = sorted(files)[3]
    with zipfile.ZipFile(path) as file:
        start = file.getinfo(victim).header_offset + 30 + len(victim)
    content = bytearray(path.read_bytes())
    content[start + 20 : start + 60] = bytes(byte ^ 0x5A for byte in content[start + 20 : start + 60])
    path.write_bytes(content)
    packed = pack_cells(open_source(path), SMALL, tmp_path / "cells.npy")
    assert list(reasons(packed)) == [victim]
    assert reasons(packed)[victim].startswith("unreadable")
    assert packed.table["path"].tolist() == sorted(set(files) - {victim})


def test_a_zip_entry_that_ends_too_early_is_listed(tmp_path):
    files = some_files()
    path = write_zip(tmp_path / "cells.zip", files)
    content = bytearray(path.read_bytes())
    last = content.rindex(b"PK\x01\x02")
    content[last + 20 : last + 28] = (10**7).to_bytes(4, "little") * 2  # claims more bytes than the archive has
    path.write_bytes(content)
    packed = pack_cells(open_source(path), SMALL, tmp_path / "cells.npy")
    assert list(reasons(packed)) == [list(files)[-1]]
    assert len(packed.table) == len(files) - 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.png": png(1), "2.png": png(2)}, "found no class folder; expected a folder of images at least"),
        ({}, "found no class folder; expected a folder of images at least"),
        ({"A/1.png": png(1), "B/2.png": b"text"}, r"class folder 'B' has no usable image.*not an image"),
        ({"A/1.png": b"", "B/2.png": b""}, "class folder 'A' has no usable image.*empty file"),
        ({"A/1.png": png(1), "B/2.png": png(1)}, "class folder 'A' has no usable image.*conflicting labels"),
    ],
    ids=["no class", "nothing", "text only", "all empty", "conflicting only"],
)
def test_a_missing_class_is_named_and_no_file_is_left(tmp_path, files, message):
    with pytest.raises(CellsError, match=rf"cells\.zip: .*{message}"):
        pack(tmp_path, files)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.zip"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 20},
        {"size": 8},
        {"size": 1024},
        {"background": (0, 0)},
        {"background": (0, 0, 256)},
        {"background": (-1, 0, 0)},
        {"common_side": 0},
        {"sides": 3},
        {"conflicting_labels": "first"},
    ],
    ids=str,
)
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        PackingParameters(**({"size": 32} | wrong))


MEASURE_MEMORY = """
import os, sys, time
from pathlib import Path
import numpy as np
os.cpu_count = lambda: 2  # images wait in proportion to the processors
from malaria_diffusion.cells.sources import ZipSource
from malaria_diffusion.cells.packing import PackingParameters, pack_cells

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

class SlowStart(ZipSource):
    # the first image comes only when no other is being read any more: the others pile up, if they may
    begun = 0

    def read(self, entry):
        self.begun += 1
        if entry.path == "A/0.png":
            before = 0
            while before < self.begun:
                before = self.begun
                time.sleep(0.2)
        return super().read(entry)

few, many, target = map(Path, sys.argv[1:])
parameters = PackingParameters(size=160)
pack_cells(ZipSource(few), parameters, target)
before = peak()
packed = pack_cells(SlowStart(many), parameters, target)
after = peak()
everything = np.array(packed.cells)
print(everything.nbytes // 2**20, after - before, peak() - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists() or "VmHWM" not in Path("/proc/self/status").read_text(),
    reason="this system does not tell a process's peak memory",
)
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    counts = {"few.zip": 150, "many.zip": 2000}
    for name, count in counts.items():
        write_zip(tmp_path / name, {f"{'AB'[k % 2]}/{k}.png": png(k, 6, 6) for k in range(count)})
    arguments = [str(tmp_path / name) for name in [*counts, "cells.npy"]]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE_MEMORY, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    size, packing, loading = map(int, run.stdout.split())
    assert size > 140
    assert packing < 30
    assert loading > 100  # the measure does see the array once it is in memory
