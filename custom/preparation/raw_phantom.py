"""Raw studies whose way into the atlas is known: a prepared study is given a head, moved, and scanned again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from scipy import ndimage

from custom.common.atomic_files import folder_beside, require_writable
from custom.common.errors import BadInput
from custom.common.file_names import require_file_name
from custom.common.grid import Grid
from custom.common.resample import resample
from custom.data.phantom import make_phantom

MARGIN = 25  # voxels around the atlas, for the head
FIELD_OF_VIEW_MM = (216, 250, 200)
# (in the plane, slice thickness) in mm, of which one is drawn
VOXELS_MM = {
    "flair": ((0.9, 5), (0.9, 5)),
    "t1": ((1, 1), (0.9, 5)),
    "t2": ((0.9, 3), (0.9, 5)),
    "t1ce": ((1, 1), (1, 1.5)),
}
# Head around the brain: up to how far from it, in mm, and its signal in each modality against that of white matter.
LAYERS = (
    #   mm  flair t1    t2   t1ce
    (2.5, (0.2, 0.3, 3.0, 0.35)),  # csf
    (9.0, (0.1, 0.1, 0.1, 0.1)),  # bone
    (12.0, (0.6, 0.5, 0.5, 0.7)),  # muscle and skin
    (16.0, (1.2, 1.5, 1.1, 1.5)),  # fat
)
ORDER = ("flair", "t1", "t2", "t1ce")
NOISE = 0.02  # of the signal of white matter
POSE_DEGREES, POSE_MM = 12.0, 20.0  # of the head against the atlas
MOTION_DEGREES, MOTION_MM = 4.0, 6.0  # of a series against the T1ce
OFFSET_MM = 15.0  # between the coordinates of the FLAIR and those of the others: the patient left the scanner


def make_raw(
    images: Mapping[str, MetaTensor], seed: int = 0, skull: bool = True
) -> tuple[dict[str, MetaTensor], dict[str, np.ndarray]]:
    """Make a raw study of one in the atlas: with skull and noise, turned and shifted, each series on its own grid.

    Args:
        images: modality -> (1, H, W, D) on one grid of 1 mm, skull-stripped; all four.
        seed: of the pose, the motion and the voxels.
        skull: whether to put a head around the brain; without one the background stays zero.

    Returns:
        Modality -> (1, H, W, D) float32, and modality -> (4, 4), from RAS coordinates of ``images`` to those of the raw
        image.
    """
    rng = np.random.default_rng([seed, 2])
    padded = {name: _padded(image) for name, image in images.items()}
    brain = torch.stack([image.as_tensor() > 0 for image in padded.values()]).any(0)[0].numpy()
    outside = ndimage.distance_transform_edt(~brain).astype(np.float32)
    some = next(iter(padded.values()))
    centre = apply_affine(np.asarray(some.affine), ndimage.center_of_mass(brain))
    pose = _move(rng, centre, POSE_DEGREES, POSE_MM)
    raw, transforms = {}, {}
    for number, name in enumerate(ORDER):
        image = padded[name].as_tensor()[0].numpy()
        white = float(np.median(image[brain]))
        if skull:
            image = _with_head(image, outside, name, white)
        motion = np.eye(4) if name == "t1ce" else _move(rng, apply_affine(pose, centre), MOTION_DEGREES, MOTION_MM)
        if name == "flair":
            motion = from_matvec(np.eye(3), [0, 0, OFFSET_MM]) @ motion
        transforms[name] = motion @ pose
        plane, thickness = VOXELS_MM[name][rng.integers(2)]
        head = MetaTensor(torch.from_numpy(image)[None], affine=some.affine, meta={"space": "RAS"})
        scanned = _scan(head, transforms[name], apply_affine(pose, centre), plane, thickness)
        if skull:
            noise = NOISE * white * np.random.default_rng([seed, number]).standard_normal((2, *scanned.shape))
            voxels = np.hypot(scanned.as_tensor().numpy() + noise[0], noise[1])
            scanned = MetaTensor(torch.from_numpy(voxels.astype(np.float32)), meta=scanned.meta)
        raw[name] = scanned
    return raw, transforms


def make_raw_study(output_dir: str | Path, study_id: str = "raw_000", seed: int = 0) -> Path:
    """Write a raw phantom, ``<study_id>/<study_id>_{flair,t1,t2,t1ce}.nii.gz`` as a scanner would, each on its grid.

    Returns:
        The study's folder. Images are int16.

    Raises:
        BadInput: ``study_id`` is no plain file name, the study exists already, or ``output_dir`` cannot be written to.
    """
    folder = require_writable(output_dir)
    study = folder / require_file_name(study_id, "study_id")
    if study.exists():
        raise BadInput(f"{study} exists already; expected a study_id that is not there yet.")
    volumes, _, affine = make_phantom(seed)
    placed = {
        name: MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(affine), meta={"space": "RAS"})
        for name, volume in volumes.items()
    }
    raw, _ = make_raw(placed, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with folder_beside(folder) as scratch:
        unfinished = scratch / study_id
        unfinished.mkdir()
        for name, image in raw.items():
            nifti = nib.Nifti1Image(np.rint(image[0].numpy()).astype(np.int16), np.asarray(image.affine))
            nifti.header.set_xyzt_units("mm", "sec")
            nib.save(nifti, unfinished / f"{study_id}_{name}.nii.gz")
        unfinished.rename(study)
    return study


def _padded(image: MetaTensor) -> MetaTensor:
    """Return an image with room for a head around it."""
    voxels = torch.nn.functional.pad(image.as_tensor(), [MARGIN] * 6)
    affine = np.asarray(image.affine) @ from_matvec(np.eye(3), 3 * [-MARGIN])
    return MetaTensor(voxels, affine=affine, meta={"space": "RAS"})


def _with_head(image: np.ndarray, outside: np.ndarray, name: str, white: float) -> np.ndarray:
    """Return a volume with layers around the brain; ``outside`` is how far from it a voxel is, in mm."""
    head, inner = image.copy(), 0.0
    for outer, signals in LAYERS:
        head[(outside > inner) & (outside <= outer)] = white * signals[ORDER.index(name)]
        inner = outer
    return ndimage.gaussian_filter(head, 0.5)


def _move(rng: np.random.Generator, centre: np.ndarray, degrees: float, millimetres: float) -> np.ndarray:
    """Return a random turn about ``centre`` and shift, (4, 4)."""
    turn = euler2mat(*np.radians(rng.uniform(-degrees, degrees, 3)))
    return from_matvec(turn, centre - turn @ centre + rng.uniform(-millimetres, millimetres, 3))


def _scan(head: MetaTensor, transform: np.ndarray, centre: np.ndarray, plane: float, thickness: float) -> MetaTensor:
    """Return what a scanner sees of a head that has been moved: axial slices, each the mean over its thickness."""
    fine = round(thickness) if thickness >= 2 else 1
    shape = [round(mm / size) for mm, size in zip(FIELD_OF_VIEW_MM, (plane, plane, thickness), strict=True)]
    sides = np.array([plane, plane, thickness / fine])
    samples = (shape[0], shape[1], shape[2] * fine)
    affine = from_matvec(np.diag(sides * [-1, -1, 1]))  # L, P, S, as scanners' axial slices are
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(samples) - 1) / 2)
    seen = resample(head, Grid(samples, affine), np.linalg.inv(transform)).as_tensor()
    slices = seen.reshape(1, *shape, fine).mean(-1)
    placed = affine @ from_matvec(np.diag([1, 1, fine]), [0, 0, (fine - 1) / 2])
    return MetaTensor(slices, affine=torch.from_numpy(placed), meta={"space": "RAS"})
