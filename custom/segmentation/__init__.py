"""The segmenter: its training batch, augmentation and how it is given the synthetic T1ce."""
