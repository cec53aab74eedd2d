"""A NIfTI file of any header and content is read as nibabel reads it, or refused in one sentence."""

from __future__ import annotations

import gzip
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from custom.data.check_geometry import MILLIMETRES
from custom.data.load import LoadStudyd
from tests.fuzzing.conftest import inputs, read
from tests.fuzzing.strategies import AFFINES, damages

SHAPE = (8, 9, 7)
TYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]
ODD = [0.0, -1.0, 1.0, 0.5, 1e-30, 1e30, 3e38, float("nan"), float("inf"), float("-inf"), 10.0, 12.0, 0.001]
# field of a header -> what one of its numbers may be
FIELDS = {
    "dim": [-1, 0, 1, 2, 3, 4, 5, 7, 8, 9, 20, 300, 32767, -32768],
    "pixdim": ODD,
    "datatype": [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 999, -1],
    "bitpix": [0, 8, 16, 32, 7, -8],
    "vox_offset": [0, 348, 352, 353, 400, 5000, -16, 1e9, float("nan"), float("inf")],
    **dict.fromkeys(("scl_slope", "scl_inter"), ODD),
    "xyzt_units": range(256),
    "sform_code": [-1, 0, 1, 2, 4, 5, 99],
    "qform_code": [-1, 0, 1, 2, 4, 5, 99],
    **dict.fromkeys(("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"), ODD),
    **dict.fromkeys(("srow_x", "srow_y", "srow_z"), ODD),
    "magic": [b"n+1", b"ni1", b"n+2", b"", b"abc"],
    "sizeof_hdr": [348, 540, 0, -1],
}
ODD_VOXELS = [np.nan, np.inf, -np.inf, 1e38, 1e300, -5.0]


def head(dtype: type, spots: list[float]) -> np.ndarray:
    """Return voxels of a brain with zeros around it; ``spots`` are odd values inside."""
    voxels = np.zeros(SHAPE, dtype)
    voxels[2:-2, 2:-2, 2:-2] = np.arange(4 * 5 * 3).reshape(4, 5, 3) + 20
    with np.errstate(over="ignore"):
        voxels[3, 3, 2 : 2 + len(spots)] = spots
    return voxels


class Made(NamedTuple):
    """A file: its bytes, the type of its header, and the affine and float32 voxels that it must be read as."""

    content: bytearray
    header: np.dtype
    affine: np.ndarray
    voxels: np.ndarray

    def set(self, field: str, place: int, value: float | bytes) -> None:
        """Change one number of a field of the header."""
        numbers = np.frombuffer(self.content, self.header, 1)[field].reshape(-1)
        with suppress(OverflowError, ValueError):  # infinity in an integer of NIfTI 2
            numbers[place % numbers.size] = value


@st.composite
def images(draw, odd=()):
    """A whole file: any type, orientation, scale, byte order and version; of real numbers perhaps ``odd`` ones."""
    dtype = draw(st.sampled_from(TYPES))
    voxels = head(dtype, draw(st.lists(st.sampled_from(odd), max_size=2)) if odd and dtype(0.5) else [])
    kind, module = draw(st.sampled_from([(nib.Nifti1Image, nib.nifti1), (nib.Nifti2Image, nib.nifti2)]))
    order = draw(st.sampled_from("<>"))
    affine = draw(st.sampled_from(AFFINES))
    image = kind(
        voxels[..., None] if draw(st.booleans()) else voxels, affine, kind.header_class(endianness=order), dtype=dtype
    )
    made = Made(bytearray(image.to_bytes()), module.header_dtype.newbyteorder(order), affine, voxels)
    slope, inter = draw(st.sampled_from([(np.nan, np.nan), (0, 7), (1, 0), (2.5, 0), (-1, 0), (1, -20), (0.25, 3.5)]))
    made.set("scl_slope", 0, slope)
    made.set("scl_inter", 0, inter)
    if slope and np.isfinite(slope):
        voxels = voxels.astype(np.float64) * slope + inter
    with np.errstate(over="ignore"):
        return made._replace(voxels=np.where(head(np.uint8, []), voxels, 0).astype(np.float32))


@st.composite
def damaged(draw):
    """The name and bytes of a file with changed fields, flipped bits or a missing end, compressed before or after."""
    made = draw(images(odd=ODD_VOXELS))
    for field in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=3)):
        with np.errstate(over="ignore", invalid="ignore"):
            made.set(field, draw(st.integers(0, 7)), draw(st.sampled_from(FIELDS[field])))
    content = bytes(made.content)
    compressed = draw(st.sampled_from(["no", "before", "after"]))
    if compressed == "before":
        content = gzip.compress(content, 1, mtime=0)
    content = draw(damages(600)).to(content)  # a header has 348 or 540 bytes
    if compressed == "after":
        content = gzip.compress(content, 1, mtime=0)
    return "a_flair.nii" if compressed == "no" else "a_flair.nii.gz", content


def load(path: Path, content: bytes) -> MetaTensor | None:
    """Load a file as the FLAIR of a study; None if it is refused."""
    path.write_bytes(content)
    return read(path, lambda: LoadStudyd(modalities=("flair",))({"image": {"flair": str(path)}})["image"])


@inputs(0.25)
@given(made=images())
def test_every_type_orientation_and_scale_is_read(folder, outcomes, made):
    image = load(folder / "a_flair.nii", made.content)
    outcomes["refused" if image is None else "loaded"] += 1
    assert image is not None
    np.testing.assert_allclose(image.affine.numpy(), made.affine, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(image[0].numpy(), made.voxels, rtol=1e-6)


@inputs(0.65)
@given(made=damaged())
def test_a_damaged_file_is_refused_or_read_as_nibabel_reads_it(folder, outcomes, made):
    path = folder / made[0]
    image = load(path, made[1])
    outcomes["refused" if image is None else "loaded"] += 1
    if image is None:
        return
    expected = nib.load(path)
    scale = MILLIMETRES.get(int(expected.header["xyzt_units"]) & 7, 1.0)
    np.testing.assert_allclose(image.affine.numpy(), np.diag([scale, scale, scale, 1]) @ expected.affine, rtol=1e-6)
    voxels = image[0].numpy()
    raw = np.asarray(expected.dataobj, np.float32).reshape(voxels.shape)
    assert np.isfinite(voxels).all() and voxels.any()
    np.testing.assert_allclose(voxels[voxels != 0], raw[voxels != 0], rtol=1e-6)
    replaced = raw[(voxels == 0) & (raw != 0)]  # one value around the brain, to rounding
    assert np.isnan(replaced).all() or np.ptp(replaced) <= 2e-6 * np.abs(raw).max(where=np.isfinite(raw), initial=0)
