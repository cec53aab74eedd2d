"""Pictures of validation slices for TensorBoard: the same slices after each validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.handlers import TensorBoardHandler
from torch.nn import functional as F

from custom.common.cli_flags import as_path
from custom.common.pictures import fullest_section, radiological
from custom.preprocessing.channels import CHANNELS
from custom.preprocessing.residual import RESIDUAL_TOP, residual_map
from custom.preprocessing.slicing import brain_box

WHITE = 0.8  # the intensity that is shown as white; normal tissue is at about 0.4
SCALE = 3  # enlargement of a slice
PREDICTION = (1.0, 0.50, 0.05)  # orange and blue, easy to tell apart
TRUTH = (0.0, 0.78, 1.0)

Study = Mapping[str, torch.Tensor]


class ValidationPictures(TensorBoardHandler):
    """Write one slice of each of the first studies of every validation to TensorBoard, as ``<id>/<picture>``.

    The patient's right is on the left, anterior is up. MONAI's `TensorBoardImageHandler` writes an animation of all
    slices of a volume, with its axes as stored, only for the last batch, and each scaled by its own maximum.

    Args:
        log_dir: folder of TensorBoard's files.
        pictures: function that draws the pictures of a study, such as `segmentation_pictures`.
        studies: number of studies.
    """

    def __init__(self, log_dir: str, pictures: Callable[[Study], Mapping[str, torch.Tensor]], studies: int = 3) -> None:
        super().__init__(log_dir=str(as_path(log_dir, "output_dir")))
        self.pictures = pictures
        self.studies = studies

    def attach(self, evaluator: Any) -> None:
        """Attach it to ``evaluator``, whose batches are of one study; with several processes, the first one writes."""
        if idist.get_rank() > 0:
            return
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
    """Return the entry ``key`` of the first study of a batch, decollated or not."""
    return batch[0][key] if isinstance(batch, list) else batch[key][0]


def segmentation_pictures(study: Study) -> dict[str, torch.Tensor]:
    """Return pictures (3, h, w) of a segmented study: T1ce, synthetic T1ce, residual, uptake, both masks on FLAIR.

    Args:
        study: ``image``, the channels of `custom.preprocessing.channels.CHANNELS`, and the masks ``label`` and
            ``pred``, (classes, H, W, D); several classes are shown as one.
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
        "4_uptake": grey(shown["uptake"], 1.0),
        "5_flair_truth_blue_prediction_orange": masks,
    }


def synthesis_pictures(study: Study) -> dict[str, torch.Tensor]:
    """Return pictures (3, h, w) of a synthesized study: the real image, the synthetic one, residual, FLAIR, T1 and T2.

    Args:
        study: ``image`` (flair, t1, t2, t1ce), ``label`` from `custom.synthesis.batch.prepare_synthesis_batch`, and
            ``pred``, the synthetic image (and its standard deviation, which is not shown); each (channels, H, W, D).
    """
    image, synthetic, (real, brain, tumour) = study["image"], study["pred"][0], study["label"]
    place = fullest_slice(tumour[None] >= 0.5, image)
    flair, t1, t2 = (grey(modality[place]) for modality in image[:3])
    return {
        "1_real": grey(real[place]),
        "2_synthetic": grey(synthetic[place]),
        "3_residual": grey(residual_map(real, synthetic, brain)[place], RESIDUAL_TOP),
        "4_flair": flair,
        "5_t1": t1,
        "6_t2": t2,
    }


def fullest_slice(tumour: torch.Tensor, image: torch.Tensor) -> tuple[slice, slice, int]:
    """Return the axial slice with most tumour (or most brain if there is no tumour), cropped to the brain, as indices.

    Args:
        tumour: (classes, H, W, D), non-zero in tumour.
        image: (C, H, W, D), zero outside the brain.
    """
    amount = tumour if tumour.any() else image
    depth = fullest_section(amount.any(dim=0).numpy())
    return *brain_box(image[None, ..., depth], multiple=1), depth


def grey(image: torch.Tensor, white: float = WHITE) -> torch.Tensor:
    """Return a slice (H, W) as a picture (3, h, w) in [0, 1]; intensities of ``white`` and above are white."""
    return _enlarged(image / white).clamp(0, 1).repeat(3, 1, 1)


def outlines(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outlines (h, w) of a mask (H, W) just outside and just inside it, so that equal masks both show."""
    large = _enlarged(mask.float())

    def grown(part: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(part[None], 3, stride=1, padding=1)[0]

    return (grown(large) > large), (grown(1 - large) > 1 - large)


def _enlarged(image: torch.Tensor) -> torch.Tensor:
    return image.repeat_interleave(SCALE, 0).repeat_interleave(SCALE, 1)
