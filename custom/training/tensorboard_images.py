"""Pictures of validation for TensorBoard: what the network makes of the same slices, again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Events
from monai.handlers import TensorBoardHandler
from torch.nn import functional as F

from custom.common.pictures import fullest_section, radiological
from custom.preprocessing.channels import CHANNELS
from custom.preprocessing.residual import RESIDUAL_TOP, residual_map
from custom.preprocessing.slicing import brain_box

WHITE = 0.8  # the intensity that is white; 0.4 is as much as normal tissue is bright
SCALE = 3  # pixels of a picture for one of a slice
PREDICTION = (1.0, 0.50, 0.05)  # an orange and a blue that nobody mistakes for each other
TRUTH = (0.0, 0.78, 1.0)

Study = Mapping[str, torch.Tensor]


class ValidationPictures(TensorBoardHandler):
    """Write one slice of each of the first studies of every validation to TensorBoard, as ``<id>/<picture>``.

    The patient's right is on the left, anterior is up. MONAI's `TensorBoardImageHandler` writes every slice of a volume
    as an animation with its axes as they are stored, of the last batch alone, each scaled by its own maximum.

    Args:
        log_dir: where TensorBoard's files go.
        pictures: what is shown of a study, such as `segmentation_pictures`.
        studies: how many studies.
    """

    def __init__(self, log_dir: str, pictures: Callable[[Study], Mapping[str, torch.Tensor]], studies: int = 3) -> None:
        super().__init__(log_dir=log_dir)
        self.pictures = pictures
        self.studies = studies

    def attach(self, evaluator: Any) -> None:
        """Attach it to ``evaluator``, whose batches are of one study."""
        evaluator.add_event_handler(Events.ITERATION_COMPLETED(event_filter=self._is_first), self)

    def _is_first(self, evaluator: Any, iteration: int) -> bool:
        return iteration <= self.studies

    def __call__(self, evaluator: Any) -> None:
        """Write the pictures of the study that ``evaluator`` has just completed."""
        state = evaluator.state
        study = {
            key: _of_first(state.output, key).as_subclass(torch.Tensor).detach().float().cpu()
            for key in ("image", "label", "pred")
        }
        for name, picture in self.pictures(study).items():
            tag = f"{_of_first(state.batch, 'id')}/{name}"
            self._writer.add_image(tag, radiological(picture), state.epoch, dataformats="CHW")
        self._writer.flush()


def _of_first(batch: Any, key: str) -> Any:
    """Return the entry ``key`` of the first study of a batch, which is decollated or not."""
    return batch[0][key] if isinstance(batch, list) else batch[key][0]


def segmentation_pictures(study: Study) -> dict[str, torch.Tensor]:
    """Return pictures (3, h, w) of a segmented study: T1ce, synthetic T1ce, residual, and both masks on FLAIR.

    Args:
        study: ``image``, the channels of `custom.preprocessing.channels.CHANNELS`, and the masks ``label`` and
            ``pred``, (classes, H, W, D); of several classes all together are shown.
    """
    image, truth, prediction = study["image"], study["label"] >= 0.5, study["pred"] >= 0.5
    place = fullest_slice(truth, image)
    shown = {name: image[number][place] for number, name in enumerate(CHANNELS)}
    masks = grey(shown["flair"])
    around, inside = outlines(truth.any(dim=0)[place])[0], outlines(prediction.any(dim=0)[place])[1]
    masks[:, inside] = torch.tensor(PREDICTION)[:, None]
    masks[:, around] = torch.tensor(TRUTH)[:, None]
    return {
        "1_t1ce": grey(shown["t1ce"]),
        "2_t1ce_synthetic": grey(shown["synthetic"]),
        "3_residual": grey(shown["residual"], RESIDUAL_TOP),
        "4_flair_truth_blue_prediction_orange": masks,
    }


def synthesis_pictures(study: Study) -> dict[str, torch.Tensor]:
    """Return pictures (3, h, w) of a study with synthesized T1ce: T1ce, synthetic T1ce, residual and the inputs.

    Args:
        study: ``image`` (flair, t1, t2, t1ce), ``label`` as `custom.synthesis.batch.prepare_synthesis_batch` makes it,
            and ``pred``, the synthetic T1ce (and its standard deviation, which is not shown); each (channels, H, W, D).
    """
    image, synthetic, (real, brain, tumour) = study["image"], study["pred"][0], study["label"]
    place = fullest_slice(tumour[None] >= 0.5, image)
    flair, t1, t2 = (grey(modality[place]) for modality in image[:3])
    return {
        "1_t1ce": grey(real[place]),
        "2_t1ce_synthetic": grey(synthetic[place]),
        "3_residual": grey(residual_map(real, synthetic, brain)[place], RESIDUAL_TOP),
        "4_flair": flair,
        "5_t1": t1,
        "6_t2": t2,
    }


def fullest_slice(tumour: torch.Tensor, image: torch.Tensor) -> tuple[slice, slice, int]:
    """Return where the axial slice with most tumour is, or with most brain where there is no tumour, cut to the brain.

    Args:
        tumour: (classes, H, W, D), not zero where there is some.
        image: (C, H, W, D), zero outside the brain.
    """
    amount = tumour if tumour.any() else image
    depth = fullest_section(amount.any(dim=0).numpy())
    return *brain_box(image[None, ..., depth], multiple=1), depth


def grey(image: torch.Tensor, white: float = WHITE) -> torch.Tensor:
    """Return a slice (H, W) as a picture (3, h, w) in [0, 1], in which ``white`` and all above it are white."""
    return _enlarged(image / white).clamp(0, 1).repeat(3, 1, 1)


def outlines(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lines around a mask (H, W), just outside it and just inside, (h, w): of two that agree both show."""
    large = _enlarged(mask.float())

    def grown(part: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(part[None], 3, stride=1, padding=1)[0]

    return (grown(large) > large), (grown(1 - large) > 1 - large)


def _enlarged(image: torch.Tensor) -> torch.Tensor:
    return image.repeat_interleave(SCALE, 0).repeat_interleave(SCALE, 1)
