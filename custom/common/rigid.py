"""Rigid registration of two images by mutual information, with ITK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import itk

SAMPLES = 0.25  # share of the voxels that the metric samples: half the time, and as precise as all voxels


def maximize_mutual_information(
    fixed: Any, moving: Any, transform: Any, levels_mm: Sequence[float], mask: Any = None
) -> float:
    """Move ``transform`` to the most mutual information (Mattes et al. 2003, doi 10.1109/TMI.2003.809072).

    Args:
        fixed: ITK image, float32, of one head.
        moving: another one.
        transform: ITK's `VersorRigid3DTransform` from points of ``fixed`` to those of ``moving``, where the search
            starts; it is changed.
        levels_mm: the voxels that are worked on, first coarse and then fine.
        mask: ITK image, uint8, on any grid: only where it is 1 ``fixed`` is looked at.

    Returns:
        The mutual information in nats, above 0.

    Raises:
        RuntimeError: nothing of ``moving`` lies where ``fixed`` is.
    """
    # not at the top: naming a type of ITK loads the module that it is in, which takes seconds
    image = itk.Image[itk.F, 3]
    metric = itk.MattesMutualInformationImageToImageMetricv4[image, image].New(NumberOfHistogramBins=32)
    # sums of several threads are rounded in another order on another machine
    metric.SetMaximumNumberOfWorkUnits(1)
    if mask is not None:
        inside = itk.ImageMaskSpatialObject[3].New()
        inside.SetImage(mask)
        inside.Update()
        metric.SetFixedImageMask(inside)
    scales = itk.RegistrationParameterScalesFromPhysicalShift[type(metric)].New(Metric=metric)
    optimizer = itk.RegularStepGradientDescentOptimizerv4.D.New(
        ScalesEstimator=scales, LearningRate=1.0, MinimumStepLength=1e-3, NumberOfIterations=200
    )
    registration = itk.ImageRegistrationMethodv4[image, image].New(
        FixedImage=fixed, MovingImage=moving, InitialTransform=transform, Metric=metric, Optimizer=optimizer
    )
    registration.SetNumberOfLevels(len(levels_mm))
    for level, size in enumerate(levels_mm):
        shrink = [max(1, round(size / spacing)) for spacing in fixed.GetSpacing()]
        registration.SetShrinkFactorsPerDimension(level, shrink)
    registration.SetSmoothingSigmasPerLevel([size / 2 for size in levels_mm])
    registration.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    # ITK jitters these samples around their voxels, which avoids grid artifacts in the metric
    registration.SetMetricSamplingStrategy(itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_REGULAR)
    registration.SetMetricSamplingPercentage(SAMPLES)
    registration.MetricSamplingReinitializeSeed(0)
    registration.InPlaceOn()
    registration.Update()
    return -float(optimizer.GetCurrentMetricValue())
