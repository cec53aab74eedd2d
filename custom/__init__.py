"""ReCoSeg: residual-guided brain tumour segmentation. Research software, not a medical device."""

__version__ = "0.2.0"
