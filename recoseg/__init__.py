"""ReCoSeg: brain tumour segmentation in MRI. Research software, not a medical device.

A thin layer over the two MONAI bundles in ``recoseg/bundles``: the command ``recoseg``, and these functions.

>>> import recoseg
>>> result = recoseg.segment("STUDY")  # doctest: +SKIP
>>> result.volumes_ml  # doctest: +SKIP
{'wt': ..., 'tc': ..., 'et': ...}
"""

from recoseg.bundle import VERSION as __version__
from recoseg.library import Model, Result, Segmentation, Synthesis, load, segment, synthesize

__all__ = ["Model", "Result", "Segmentation", "Synthesis", "__version__", "load", "segment", "synthesize"]
