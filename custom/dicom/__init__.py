"""DICOM: series as input, segmentation objects as output."""
