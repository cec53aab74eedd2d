"""Registration of two images by mutual information, with SimpleITK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data import MetaTensor
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from scipy import ndimage

SAMPLES = 0.5  # share of the voxels that the metric samples: as precise as all; a quarter is not on small images
SEED = 1  # of the samples' jitter; 0 would be the clock
BRIGHTEST = 99.0  # percentile of what is not zero: bins of mutual information must not be spent on a few bright voxels
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from RAS, which affines are in, to ITK's coordinates, and back


def maximize_mutual_information(
    fixed: MetaTensor,
    moving: MetaTensor,
    start: np.ndarray,
    centre: np.ndarray,
    size_mm: float,
    mask: MetaTensor | None = None,
    affine: bool = False,
) -> tuple[np.ndarray, float]:
    """Follow the mutual information (Mattes et al. 2003, doi 10.1109/TMI.2003.809072) up from a transform.

    SimpleITK's registration is ITK's. The Python package itk takes 10 s and more to load it, SimpleITK 0.3 s, and other
    threads run meanwhile.

    Args:
        fixed: (1, H, W, D) float32, of one head, with voxels of about ``size_mm``, see `pyramid`.
        moving: (1, H, W, D) float32, of another image.
        start: (4, 4), from RAS coordinates of ``fixed`` to those of ``moving``, in mm: where the search starts.
        centre: (3,), RAS coordinates in ``fixed`` of the point that it turns about.
        size_mm: both images are smoothed by half of it.
        mask: (1, H, W, D) on any grid: only where it is 1 ``fixed`` is looked at.
        affine: look for an affine transform instead of a rigid one.

    Returns:
        The transform, (4, 4) float64, and the mutual information in nats.

    Raises:
        RuntimeError: nothing of ``moving`` lies where ``fixed`` is.
    """
    transform = _to_sitk(start, centre, sitk.AffineTransform(3) if affine else sitk.VersorRigid3DTransform())
    registration = sitk.ImageRegistrationMethod()
    # sums of several threads are rounded in another order on another machine
    registration.SetNumberOfWorkUnits(1)
    registration.SetMetricAsMattesMutualInformation(32)
    if mask is not None:
        registration.SetMetricFixedMask(sitk.Cast(_image(mask), sitk.sitkUInt8))
    registration.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=200, estimateLearningRate=registration.Once
    )
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetShrinkFactorsPerLevel([1])
    registration.SetSmoothingSigmasPerLevel([size_mm / 2])
    # samples are jittered around their voxels, which avoids grid artifacts in the metric
    registration.SetMetricSamplingStrategy(registration.REGULAR)
    registration.SetMetricSamplingPercentage(SAMPLES, SEED)
    registration.SetInterpolator(sitk.sitkLinear)
    registration.SetInitialTransform(transform, inPlace=True)
    registration.Execute(_image(fixed), _image(moving))
    return _from_sitk(transform), -float(registration.GetMetricValue())


def pyramid(image: MetaTensor, levels_mm: Sequence[float]) -> list[MetaTensor]:
    """Return an image without its brightest voxels, smoothed and with voxels of about each of the sizes."""
    voxels = image.as_tensor().numpy()
    top = np.percentile(voxels[voxels != 0], BRIGHTEST) if voxels.any() else 0.0
    image = MetaTensor(voxels.clip(max=top), affine=image.affine, meta={"space": image.meta["space"]})
    levels: list[MetaTensor] = []
    for size in sorted(levels_mm):  # each from the one before, which is less work
        image = _coarser(image, size)
        levels.insert(0, image)
    return levels


def centre_of(image: MetaTensor) -> np.ndarray:
    """Return the centre of mass of an image (1, H, W, D) in RAS coordinates, in mm."""
    return apply_affine(np.asarray(image.affine), ndimage.center_of_mass(image.as_tensor()[0].numpy()))


def _coarser(image: MetaTensor, size_mm: float) -> MetaTensor:
    """Return an image, smoothed along the axes whose voxels are smaller than ``size_mm``, and with fewer of them."""
    affine = np.asarray(image.affine)
    sides = voxel_sizes(affine)
    steps = np.maximum(1, np.round(size_mm / sides)).astype(int)
    sigmas = np.where(steps > 1, size_mm / 2 / sides, 0)
    smooth = ndimage.gaussian_filter(image.as_tensor()[0].numpy(), sigmas, mode="nearest", truncate=3)
    voxels = np.ascontiguousarray(smooth[tuple(slice(None, None, step) for step in steps)])
    return MetaTensor(voxels[None], affine=affine @ np.diag([*steps, 1]), meta={"space": image.meta["space"]})


def _image(image: MetaTensor) -> sitk.Image:
    """Return an image (1, H, W, D), whose affine is in RAS coordinates, as SimpleITK has it."""
    affine = LPS @ np.asarray(image.affine, dtype=np.float64)
    sides = voxel_sizes(affine)
    result = sitk.GetImageFromArray(image.as_tensor()[0].numpy().transpose(2, 1, 0))
    result.SetSpacing(sides.tolist())
    result.SetOrigin(affine[:3, 3].tolist())
    result.SetDirection((affine[:3, :3] / sides).ravel().tolist())
    return result


def _to_sitk(matrix: np.ndarray, centre: np.ndarray, transform: Any) -> Any:
    """Set one of SimpleITK's transforms, with ``centre`` as the point that it turns about."""
    lps, middle = LPS @ matrix @ LPS, LPS[:3, :3] @ centre
    transform.SetCenter(middle.tolist())
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation((apply_affine(lps, middle) - middle).tolist())
    return transform


def _from_sitk(transform: Any) -> np.ndarray:
    """Return one of SimpleITK's transforms as a matrix (4, 4) between RAS coordinates."""
    matrix, middle = np.reshape(transform.GetMatrix(), (3, 3)), np.asarray(transform.GetCenter())
    return LPS @ from_matvec(matrix, middle + transform.GetTranslation() - matrix @ middle) @ LPS
