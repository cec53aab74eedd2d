"""The demo study: a digital phantom of a glioma patient in BraTS layout, made without any patient's data.

The anatomy is the MNI152 template with its grey and white matter maps, which nilearn's wheel ships (Fonov et al. 2011,
doi 10.1016/j.neuroimage.2010.07.033). The seed determines its shape, the tumour and the scanner's artifacts. It
replaces real studies, which may not be redistributed. It shows that the tools run, not how well a model segments.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage

from custom.common.atomic_files import require_writable
from custom.common.errors import BadInput
from custom.common.labels import ENHANCING, NECROSIS, OEDEMA
from custom.common.modalities import MODALITIES

# What every BraTS volume covers: 240 x 240 x 155 voxels of 1 mm, axis 0 to the patient's left, axis 1 to the back.
FIELD_OF_VIEW_MM = np.array([240.0, 240.0, 155.0])
# Coarser than this, the rim of the tumour (3 to 6 mm) falls between the voxels.
COARSEST_SPACING_MM = 5.0

# Centre of the brain in the field of view and its size against MNI152, whose average brain is larger than the SRI24
# brain that BraTS registers to: the ratio gives an extent near the 136 x 171 x 146 mm of a BraTS 2021 study.
_BRAIN_CENTRE_MM = np.array([119.5, 125.0, 76.5])
_BRAIN_SCALE = 0.93

# Mean signal of each tissue against white matter, after the medians of BraTS 2021 studies.
_SIGNAL = {
    #          csf,  grey, white, necrosis, rim, oedema
    "flair": (0.22, 1.22, 1.00, 1.10, 1.45, 1.95),
    "t1": (0.32, 0.75, 1.00, 0.50, 0.72, 0.74),
    "t2": (4.00, 1.42, 1.00, 2.60, 1.50, 2.10),
    "t1ce": (0.32, 0.76, 1.00, 0.45, 2.10, 0.76),
}
# Signal of white matter in the scanner's arbitrary units, and how strongly the template's own texture, which is that
# of a T1 image, shows in the modality (inverted where long T1 comes with bright signal).
_SCANNER_UNITS = {"flair": 900.0, "t1": 850.0, "t2": 430.0, "t1ce": 1900.0}
_TEXTURE_GAIN = {"flair": -0.8, "t1": 1.0, "t2": -1.8, "t1ce": 1.0}
# Mean of the MNI152 T1 template in voxels of pure csf, grey matter and white matter.
_TEMPLATE_MEANS = (0.28, 0.65, 0.87)

_GROWTH_STEP_MM = 3  # grid on which the tumour's spread is simulated, in voxels of the template (1 mm)


@dataclass(frozen=True)
class _Atlas:
    """MNI152 maps cropped to the brain: float32, 1 mm, axes to the patient's right, front and top."""

    t1: np.ndarray  # template, 0 to 1
    csf: np.ndarray  # probabilities, 0 to 1
    grey: np.ndarray
    white: np.ndarray
    brain: np.ndarray  # 0 or 1
    cavity: np.ndarray  # csf blurred until only ventricles and wide clefts stay above one half
    depth: np.ndarray  # mm below the surface of the brain
    centre: np.ndarray  # voxel coordinates of the middle of the crop


@lru_cache(maxsize=1)
def _load_atlas() -> _Atlas:
    """Load and sharpen the maps that nilearn ships (no download)."""
    loaders = (
        datasets.load_mni152_template,
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_brain_mask,
    )
    maps = [load(resolution=1).get_fdata(dtype=np.float32) for load in loaders]
    box = ndimage.find_objects((maps[3] > 0).astype(np.uint8))[0]
    # A margin of two empty voxels, so that sampling past the edge gives zero.
    t1, grey, white, brain = (np.pad(volume[box], 2) for volume in maps)

    # The template is a mean over 152 people; unsharp masking gives back the edges of a single scan.
    t1 = np.clip(t1 + 1.2 * (t1 - ndimage.gaussian_filter(t1, 1.2)), 0.15, 1.05)
    # The maps give thin sulci to grey matter; where the template is darker than grey matter, there is csf too.
    csf_mean, grey_mean, _ = _TEMPLATE_MEANS
    csf = np.maximum(1.0 - grey - white, (grey_mean - 0.05 - t1) / (grey_mean - 0.05 - csf_mean))
    csf = np.clip(csf, 0.0, 1.0) * brain
    rest = (1.0 - csf) / np.maximum(grey + white, 1e-3)
    cavity = ndimage.gaussian_filter(csf, 1.5)
    depth = ndimage.distance_transform_edt(brain > 0).astype(np.float32)
    centre = (np.array(brain.shape) - 1) / 2
    return _Atlas(t1, csf, grey * rest, white * rest, brain, cavity, depth, centre)


class _Grid:
    """The voxels of the study: where they lie in the field of view, and smooth random fields over them."""

    def __init__(self, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
        self.shape = shape
        self.voxel_mm3 = math.prod(spacing)
        # The corners of the first voxels coincide at every spacing, so every grid shows the same field of view.
        self.positions = [np.arange(n) * mm + (mm - 1.0) / 2.0 for n, mm in zip(shape, spacing, strict=True)]
        self.affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
        self.affine[:3, 3] = [-self.positions[0][0], 239.0 - self.positions[1][0], self.positions[2][0]]

    def smooth_noise(self, rng: np.random.Generator, cell_mm: float) -> np.ndarray:
        """Return a random field of about zero mean and unit variance that varies over ``cell_mm``.

        Cubic B-splines interpolate a lattice of random numbers that does not depend on the voxels, so that a seed
        gives the same anatomy at every resolution.
        """
        field = rng.standard_normal([math.ceil(mm / cell_mm) + 4 for mm in FIELD_OF_VIEW_MM]).astype(np.float32)
        for axis, positions in enumerate(self.positions):
            at = np.clip(positions / cell_mm, 0.0, field.shape[axis] - 4.0)
            distance = np.abs(at[:, None] + 1.0 - np.arange(field.shape[axis]))
            near, far = 2 / 3 - distance**2 + distance**3 / 2, (2.0 - distance).clip(0.0) ** 3 / 6
            weights = np.where(distance < 1.0, near, far).astype(np.float32)
            field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
        return field * np.float32(0.479**-1.5)  # the mean square of the weights is 0.479 along each axis


@dataclass(frozen=True)
class _Tumour:
    """A tumour in the coordinates of the atlas, in mm."""

    centre: np.ndarray
    radius: float
    stretch: np.ndarray  # factor by which each axis of the core is shortened
    density: np.ndarray  # infiltrating cells, 0 to 1, on every `_GROWTH_STEP_MM`-th voxel of the atlas


def _grow_tumour(rng: np.random.Generator, atlas: _Atlas) -> _Tumour:
    """Seed a tumour in the white matter of one hemisphere and let it spread along white matter.

    The spread is the Fisher equation with a diffusion that is five times larger in white than in grey matter and nil
    in csf (Swanson et al. 2000, doi 10.1046/j.1365-2184.2000.00177.x).
    """
    coarse = (slice(None, None, _GROWTH_STEP_MM),) * 3
    brain, grey, white, cavity = (volume[coarse] for volume in (atlas.brain, atlas.grey, atlas.white, atlas.cavity))
    voxels = np.indices(brain.shape) * float(_GROWTH_STEP_MM)

    radius = rng.uniform(16.0, 20.0)
    # Deep enough for the core to stay off the surface, off the ventricles and the midline, and above the cerebellum
    # (70 mm over the base).
    to_ventricle = ndimage.distance_transform_edt((cavity < 0.5) | (atlas.depth[coarse] < 20.0)) * _GROWTH_STEP_MM
    off_midline = np.abs(voxels[0] - atlas.centre[0])
    candidates = np.argwhere(
        (white > 0.9)
        & (atlas.depth[coarse] > radius)
        & (to_ventricle > 0.7 * radius)
        & (off_midline > 24.0)
        & (voxels[2] > 70.0)
        & (voxels[2] < 115.0)
    )
    centre = candidates[rng.integers(len(candidates))] * float(_GROWTH_STEP_MM)

    distance = np.sqrt(((voxels - centre.reshape(3, 1, 1, 1)) ** 2).sum(axis=0))
    density = (distance < radius) * brain
    # Per step; a diffusion above a sixth of the squared grid step would make the explicit scheme unstable.
    diffusion = np.where(cavity > 0.5, 0.0, white + 0.2 * grey) * brain * 1.2 / _GROWTH_STEP_MM**2
    for _ in range(rng.integers(45, 75)):
        change = 0.05 * density * (1.0 - density)
        for axis in range(3):
            ahead = [slice(None)] * 3
            behind = [slice(None)] * 3
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            a, b = tuple(ahead), tuple(behind)
            flux = np.minimum(diffusion[a], diffusion[b]) * (density[a] - density[b])
            change[a] -= flux
            change[b] += flux
        density = density + change
    stretch = rng.uniform(0.8, 1.25, 3)
    return _Tumour(centre, radius, stretch, density.astype(np.float32))


def _deform(rng: np.random.Generator, grid: _Grid, atlas: _Atlas) -> list[np.ndarray]:
    """Return the atlas coordinates of every voxel: another head, other gyri, for every seed."""
    signs = (-1.0, -1.0, 1.0)  # BraTS counts to the left and the back, the atlas to the right and the front
    scales = _BRAIN_SCALE * rng.uniform(0.97, 1.01, 3)
    coordinates = []
    for axis in range(3):
        along = signs[axis] * (grid.positions[axis] - _BRAIN_CENTRE_MM[axis]) / scales[axis] + atlas.centre[axis]
        bend = 2.5 * grid.smooth_noise(rng, 45.0) + 1.3 * grid.smooth_noise(rng, 15.0)
        coordinates.append(bend + along.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)]))
    return coordinates


def _sample(volume: np.ndarray, at: Sequence[np.ndarray], step: float = 1.0) -> np.ndarray:
    """Return ``volume``, whose voxels are ``step`` apart, linearly interpolated at atlas coordinates."""
    return ndimage.map_coordinates(volume, [axis / step for axis in at], order=1, output=np.float32)


def _inside(level: np.ndarray, softness: float) -> np.ndarray:
    """Return the membership, 0 to 1, of the region where ``level`` is positive, with a border of that softness."""
    return 1.0 / (1.0 + np.exp(-np.clip(level / softness, -30.0, 30.0)))


def make_phantom(
    seed: int = 0,
    shape: Sequence[int] = (240, 240, 155),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Make the volumes of a phantom study.

    The template is bent by random B-splines and pushed aside by the tumour; its tissue maps give each modality its
    contrast, its own intensities the texture. Then come a smooth bias field and Rician noise (Gudbjartsson and
    Patz 1995, doi 10.1002/mrm.1910340618). The tumour is a necrotic core in an enhancing rim with a noise-warped
    border, and oedema where infiltrating cells would spread.

    Args:
        seed: Any integer from 0 on; another seed gives another brain and another tumour. The same seed gives the same
            anatomy and tumour at every resolution.
        shape: Number of voxels along the three axes.
        spacing: Size of a voxel in mm, above 0 and up to 5. ``shape`` times ``spacing`` must cover the field of view
            of BraTS, 240 x 240 x 155 mm, to within a voxel.

    Returns:
        The images by modality (``flair``, ``t1``, ``t2``, ``t1ce``), each float32 of ``shape`` in arbitrary scanner
        units: 0 outside the brain, at least 1 and up to some thousands inside; the mask, uint8 of ``shape``, with 0
        (no tumour), 1 (necrotic core), 2 (oedema) and 4 (enhancing rim); and the affine, float64 of shape (4, 4), from
        voxels to mm in RAS+, which at 1 mm is that of BraTS.

    Raises:
        BadInput: An argument is outside the values above.
    """
    grid = _Grid(*_check_arguments(seed, shape, spacing))
    rng = np.random.default_rng(seed)
    atlas = _load_atlas()
    tumour = _grow_tumour(rng, atlas)
    everywhere = _deform(rng, grid, atlas)
    brain = _sample(atlas.brain, everywhere) > 0.5
    at = [axis[brain] for axis in everywhere]  # from here on only the voxels of the brain: a sixth of the volume

    def noise(cell_mm: float) -> np.ndarray:
        return grid.smooth_noise(rng, cell_mm)[brain]

    # Mass effect: what lies around the tumour was nearer to its centre before, but the skull does not yield.
    offsets = [axis - c for axis, c in zip(at, tumour.centre, strict=True)]
    squared = sum(offset**2 for offset in offsets)
    push = 0.3 * np.exp(-squared / (1.6 * tumour.radius) ** 2) * np.clip(_sample(atlas.depth, at) / 15.0, 0.0, 1.0)
    at = [axis - push * offset for axis, offset in zip(at, offsets, strict=True)]

    # Tissues: sulci of another width than the template's, in places.
    csf, grey, white = (_sample(volume, at) for volume in (atlas.csf, atlas.grey, atlas.white))
    texture = _sample(atlas.t1, at) - sum(m * p for m, p in zip(_TEMPLATE_MEANS, (csf, grey, white), strict=True))
    texture = np.clip(texture, -0.12, 0.12) + 0.007 * noise(6.0) + 0.005 * noise(2.5)
    wider = np.clip(csf * (1.5 + 0.3 * noise(25.0)) - 0.08, 0.0, 1.0)
    rest = (1.0 - wider) / np.maximum(1.0 - csf, 1e-3)
    csf, grey, white = wider, grey * rest, white * rest

    # Tumour: distances to a border, about in mm and positive inside; each border is warped at two scales, and the core
    # flows around the ventricles. The volumes are set: no seed may come without a core or without necrosis.
    stretched = np.sqrt(sum((offset * s) ** 2 for offset, s in zip(offsets, tumour.stretch, strict=True)))
    core_mm = 3.5 * noise(17.0) + 1.5 * noise(6.0) - stretched
    core_mm -= 25.0 * np.clip(_sample(atlas.cavity, at) - 0.4, 0.0, 1.0)
    core_volume = 4.0 / 3.0 * np.pi * (_BRAIN_SCALE * tumour.radius) ** 3 / grid.voxel_mm3
    core_mm -= np.quantile(core_mm, 1.0 - core_volume / core_mm.size)
    necrosis_mm = core_mm + 2.0 * noise(12.0) + 1.8 * noise(5.0)
    necrosis_mm -= np.quantile(necrosis_mm[core_mm > 0], rng.uniform(0.55, 0.75))
    necrosis_mm = np.minimum(necrosis_mm, core_mm - 2.0)  # nowhere a thinner rim
    oedema_level = _sample(tumour.density, at, _GROWTH_STEP_MM) + 0.07 * noise(7.0) - 0.45 * grey - 0.3
    core, necrosis = _inside(core_mm, 0.5), _inside(necrosis_mm, 0.7)
    # Most water near the core: the signal fades towards the front, unlike the label.
    oedema = _inside(oedema_level, 0.08) * np.clip(0.7 + 0.5 * oedema_level, 0.0, 1.0) * (1.0 - csf) * (1.0 - core)
    rim = core * (1.0 - necrosis) * np.clip(0.8 + 0.25 * noise(4.0), 0.3, 1.0)  # enhances unevenly
    necrosis = core - rim

    label = np.zeros(grid.shape, np.uint8)
    label[brain] = np.select(
        [(core_mm > 0) & (necrosis_mm > 0), core_mm > 0, (oedema_level > 0) & (csf < 0.5)],
        [NECROSIS, ENHANCING, OEDEMA],
        0,
    )

    # Vessels: two random surfaces meet in curves. The choroid plexus lies in the ventricles, the sinus on the midline.
    depth = _sample(atlas.depth, at)
    curves = np.exp(-(noise(9.0) ** 2 + noise(9.0) ** 2) / 0.02)
    choroid = csf * (depth > 25.0) * np.clip(noise(4.0) - 0.5, 0.0, 1.0)
    sinus = np.exp(-((at[0] - atlas.centre[0]) ** 2) / 3.0) * np.clip(2.0 - depth / 3.0, 0.0, 1.0) * (at[2] > 60.0)
    vessels = np.clip(curves * np.clip(2.0 * csf, 0.0, 1.0) * (depth < 25.0) + 0.6 * choroid + 0.8 * sinus, 0.0, 1.0)

    healthy = 1.0 - core - oedema
    parts = (csf * healthy, grey * healthy, white * healthy, necrosis, rim, oedema)
    patchy = 1.0 + 0.1 * (noise(10.0) + noise(3.5)) * core + 0.07 * (noise(14.0) + noise(5.0)) * oedema
    images = {}
    # A separate generator, so that the number of voxels does not change the other random numbers.
    scanner = np.random.default_rng([seed, 1])
    for modality in MODALITIES:
        signal = sum(mean * part for mean, part in zip(_SIGNAL[modality], parts, strict=True)) * patchy
        signal += _TEXTURE_GAIN[modality] * texture * (1.0 - 0.7 * core)
        if modality == "t1ce":
            signal += 2.2 * vessels * (1.0 - core)
        signal *= np.exp(0.06 * noise(80.0))
        thermal = 0.022 * scanner.standard_normal((2, signal.size), dtype=np.float32)
        signal = np.hypot(signal.clip(0.0) + thermal[0], thermal[1])
        units = _SCANNER_UNITS[modality] * rng.uniform(0.85, 1.15)
        volume = np.zeros(grid.shape, np.float32)
        volume[brain] = np.maximum(signal * units, 1.0)  # inside, 0 would read as outside
        images[modality] = volume
    return images, label, grid.affine


def make_study(
    output_dir: str | Path,
    study_id: str = "demo_000",
    seed: int = 0,
    shape: Sequence[int] = (240, 240, 155),
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write a phantom study in BraTS layout: ``<study_id>/<study_id>_{flair,t1,t2,t1ce,seg}.nii.gz``.

    The files appear together: they are written to a hidden folder beside the study, which is then renamed.

    Args:
        output_dir: Folder that gets the study's folder; made if missing.
        study_id: Name of the study's folder and start of its file names.
        seed: As in `make_phantom`.
        shape: As in `make_phantom`.
        spacing: As in `make_phantom`, in mm.

    Returns:
        The study's folder. Images are int16 in arbitrary scanner units, 0 outside the brain; the mask is uint8 with
        0, 1, 2 and 4, as `make_phantom` describes.

    Raises:
        BadInput: ``study_id`` is no plain file name, the study exists already, ``output_dir`` cannot be written to, or
            an argument is one that `make_phantom` refuses.
    """
    folder = require_writable(output_dir)
    if not study_id or study_id.startswith(".") or set(study_id) & set('/\\:*?"<>|\0'):
        raise BadInput(f"study_id is {study_id!r}; expected a plain name such as 'demo_000'.")
    study = folder / study_id
    if study.exists():
        raise BadInput(f"{study} exists already; expected a study_id that is not there yet.")

    images, label, affine = make_phantom(seed, shape, spacing)
    volumes = {modality: np.rint(image).astype(np.int16) for modality, image in images.items()} | {"seg": label}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{study_id}.", dir=folder) as scratch:
        unfinished = Path(scratch) / study_id
        unfinished.mkdir()
        for name, volume in volumes.items():
            nifti = nib.Nifti1Image(volume, affine)
            nifti.set_sform(affine, code=2)  # as in BraTS: only the sform, "aligned"
            nifti.set_qform(None, code=0)
            nifti.header.set_xyzt_units("mm", "sec")
            nib.save(nifti, unfinished / f"{study_id}_{name}.nii.gz")
        unfinished.rename(study)
    return study


def _check_arguments(
    seed: int, shape: Sequence[int], spacing: Sequence[float]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return ``shape`` and ``spacing`` as tuples of three, or raise `BadInput`."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise BadInput(f"seed is {seed!r}; expected an integer from 0 on.")
    voxels, millimetres = tuple(shape), tuple(float(mm) for mm in spacing)
    if len(millimetres) != 3 or not all(0.0 < mm <= COARSEST_SPACING_MM for mm in millimetres):
        raise BadInput(f"spacing is {spacing}; expected three sizes in mm, above 0 and up to {COARSEST_SPACING_MM:g}.")
    if len(voxels) != 3 or not all(isinstance(n, int | np.integer) for n in voxels):
        raise BadInput(f"shape is {shape}; expected three numbers of voxels.")
    if any(n * mm <= fov - mm for n, mm, fov in zip(voxels, millimetres, FIELD_OF_VIEW_MM, strict=True)):
        raise BadInput(f"shape {voxels} at {millimetres} mm is too small; expected at least 240 x 240 x 155 mm.")
    return voxels, millimetres
