"""Segmentation and synthesis as functions: the bundles' own configs, without files unless they are asked for."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recoseg.bundle import SEG, SYNTH, custom_in_use

if TYPE_CHECKING:
    import nibabel as nib

# PyTorch, MONAI and the bundles' code are imported by the first call, which takes seconds.


@dataclass(frozen=True, repr=False)
class Result:
    """What a bundle makes of one study.

    Attributes:
        id: name of the study.
        maps: name of a map -> image in memory, on the study's own grid, as the bundle's command writes it to
            ``<id>_<name>.nii.gz``.
        provenance: the run report, as in ``<id>_run.json``: inputs, modalities, weights and their SHA-256, settings,
            versions, seconds.
    """

    id: str
    maps: dict[str, nib.Nifti1Image]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        """Name the study and the maps: their voxels and the provenance would fill the screen."""
        return f"{type(self).__name__}({self.id!r}, maps: {', '.join(self.maps)})"

    @property
    def uptake(self) -> nib.Nifti1Image | None:
        """How far T1ce is brighter than expected, in robust standard deviations; None without a T1ce."""
        return self.maps.get("uptake")


@dataclass(frozen=True, repr=False)
class Segmentation(Result):
    """The tumour of one study."""

    def __repr__(self) -> str:
        """Name the study and the volumes."""
        volumes = ", ".join(f"{region} {ml:.1f} ml" for region, ml in self.volumes_ml.items())
        return f"Segmentation({self.id!r}, {volumes})"

    @property
    def mask(self) -> nib.Nifti1Image:
        """The label map (uint8); ``provenance["labels"]`` has the meaning of its values."""
        return self.maps["seg"]

    @property
    def probabilities(self) -> nib.Nifti1Image:
        """(H, W, D, regions) float32, 0 to 1; ``provenance["regions"]`` has the order. 3-D if there is one region."""
        return self.maps["prob"]

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Region (``wt``, ``tc``, ``et``) -> its volume in ml."""
        return dict(self.provenance["volume_ml"])

    @property
    def statistics(self) -> dict[str, dict[str, Any]]:
        """Region -> its measures: volume and its 90 % interval, centre, side and more, see the how-to of inference."""
        return {region: dict(found) for region, found in self.provenance["statistics"].items()}


@dataclass(frozen=True, repr=False)
class Synthesis(Result):
    """A synthetic image of one study."""

    @property
    def image(self) -> nib.Nifti1Image:
        """The synthetic image (float32), in the intensities of the study's own one; 0 to 1 if it has none."""
        return self.maps[f"{self.provenance['settings']['target']}_synthetic"]

    @property
    def deviation(self) -> nib.Nifti1Image:
        """The standard deviation that the network expects of the image, in the same intensities."""
        return self.maps["deviation"]


# What a model keeps between studies, and what it returns.
KEPT = {"segment": (SEG, ("network", "synthesis"), Segmentation), "synthesize": (SYNTH, ("network",), Synthesis)}


class Model:
    """A bundle whose networks stay loaded; `load` makes it. Call it with a study.

    Args:
        task: "segment" or "synthesize".
        options: options of the bundle's inference.json.

    Raises:
        BadInput: a `ValueError` with one sentence: an option is unknown, or the weights cannot be read.
    """

    def __init__(self, task: str, options: Mapping[str, Any]) -> None:
        if task not in KEPT:
            raise ValueError(f"The task is {task!r}, expected {' or '.join(KEPT)}.")
        self.bundle, kept, self.result = KEPT[task]
        with custom_in_use():
            from custom.common.options import require_known

            self.config: dict[str, Any] = {"bundle_root": str(self.bundle), **options}
            parser = self._parser()
            require_known(parser, self.config)
            parser.update(self.config)
            self.kept = {name: parser.get_parsed_content(name) for name in kept}

    def __call__(
        self,
        images: Any,
        affine: Any = None,
        *,
        id: str = "study",
        output_dir: str | Path | None = None,
        report: bool = False,
    ) -> Any:
        """Return the `Segmentation`, or the `Synthesis`, of one study.

        Args:
            images: a path in any form that the command takes; a mapping of the modalities flair, t1, t2 and t1ce, of
                which some may be missing, to paths, nibabel images, arrays (H, W, D) or TorchIO images; or a TorchIO
                subject, whose other images are not used. Images in memory pass through a temporary folder.
            affine: (4, 4) voxel to mm in RAS, of arrays.
            id: name of a study that is given as images in memory.
            output_dir: also write the results to ``<output_dir>/<id>``, as the command does; None writes nothing.
            report: with ``output_dir``, write the HTML report, too. A segmentation only.

        Raises:
            BadInput: a `ValueError` with one sentence: the study cannot be used, or ``output_dir`` not be written to.
        """
        with custom_in_use(), tempfile.TemporaryDirectory() as temporary:
            from custom.common.errors import BadInput, find_bad_input

            if report and output_dir is None:
                raise BadInput("A report is asked for without a folder, expected an output_dir.")
            study = _as_files(images, affine, id, Path(temporary))
            folder = Path(temporary) / "results" if output_dir is None else Path(output_dir)
            parser = self._parser()
            parser.update({**self.config, **self.kept, "dataset_dir": study, "output_dir": str(folder)})
            if report:
                parser.update({"report": True})
            try:
                studies = parser.get_parsed_content("studies")
                if len(studies) != 1:
                    raise BadInput(f"{images} has {len(studies)} studies, expected one; call the model for each.")
                evaluator = parser.get_parsed_content("evaluator")
                evaluator.logger = logging.Logger(__name__, logging.CRITICAL)  # ignite logs errors that it raises, too
                evaluator.run()
            except Exception as error:
                if bad_input := find_bad_input(error):  # MONAI's own error names only the transform that failed
                    raise bad_input.with_traceback(None) from None
                raise
            return self._read(folder / studies[0]["id"])

    def _parser(self) -> Any:
        """Return a new parser of the bundle's inference.json: one that has been used keeps what it has made."""
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(self.bundle / "configs" / "inference.json")
        return parser

    def _read(self, folder: Path) -> Result:
        """Return the results in a study's folder, in memory."""
        run = json.loads((folder / f"{folder.name}_run.json").read_text(encoding="utf-8"))
        return self.result(run["id"], {name: _loaded(folder / file) for name, file in run["outputs"].items()}, run)


def load(task: str = "segment", **options: Any) -> Model:
    """Load the networks once, for many studies.

    Args:
        task: "segment" or "synthesize".
        options: options of the bundle's inference.json, such as ``device="cpu"`` or ``planes=["axial"]``.

    Returns:
        The model, which is called with a study: see `Model.__call__`.
    """
    return Model(task, options)


def segment(
    images: Any,
    affine: Any = None,
    *,
    id: str = "study",
    output_dir: str | Path | None = None,
    report: bool = False,
    **options: Any,
) -> Segmentation:
    """Segment the tumour of one study; for many studies, `load` is faster.

    The arguments are those of `Model.__call__` and, as ``options``, of `load`.
    """
    return load("segment", **options)(images, affine, id=id, output_dir=output_dir, report=report)


def synthesize(
    images: Any,
    affine: Any = None,
    *,
    target: str = "t1ce",
    id: str = "study",
    output_dir: str | Path | None = None,
    **options: Any,
) -> Synthesis:
    """Synthesize one modality of one study from the others; for many studies, `load` is faster.

    The arguments are those of `Model.__call__` and, as ``options``, of `load`.

    Args:
        images: see `Model.__call__`.
        affine: see there.
        target: the modality to synthesize: flair, t1, t2 or t1ce. The study's own image of it is not used.
        id: see there.
        output_dir: see there.
        options: see `load`.
    """
    return load("synthesize", target=target, **options)(images, affine, id=id, output_dir=output_dir)


def _as_files(images: Any, affine: Any, study_id: str, folder: Path) -> Any:
    """Return a study in a form that the config takes; images in memory are written to ``folder``."""
    if isinstance(images, (str, Path, list, tuple)):
        return images
    from custom.common.errors import BadInput

    if not isinstance(images, Mapping):
        raise BadInput(
            f"The images have the type {type(images).__name__}, expected a path, a TorchIO subject, or a mapping such "
            'as {"flair": image, "t1": image, "t2": image, "t1ce": image}.'
        )
    from custom.common.file_names import require_file_name
    from custom.common.modalities import MODALITIES

    require_file_name(study_id, "The id of a study")
    if hasattr(images, "get_images_dict"):  # a TorchIO subject, which may also hold masks and text
        images = {name: images[name] for name in MODALITIES if name in images}
    write = partial(_written, affine=affine)
    return {
        str(modality): str(image if isinstance(image, (str, Path)) else write(image, folder / f"{study_id}_{modality}"))
        for modality, image in images.items()
    }


def _written(image: Any, path: Path, affine: Any) -> Path:
    """Write an image in memory, uncompressed, and return its file."""
    import nibabel as nib
    import numpy as np

    from custom.common.errors import BadInput

    path = path.with_name(f"{path.name}.nii")
    if hasattr(image, "dataobj"):  # of nibabel, which would round the values again if the type on disk is an integer
        voxels = np.asarray(image.dataobj, np.float32)
        nib.save(nib.Nifti1Image(voxels, image.affine, image.header, dtype=np.float32), path)
        return path
    if hasattr(image, "affine"):  # of TorchIO: (1, H, W, D)
        affine, image = image.affine, image.data[0]
    elif affine is None:
        raise BadInput(f"{path.stem} is an array without an affine, expected segment(images, affine).")
    voxels = np.asarray(image)
    if voxels.ndim != 3 or np.shape(affine) != (4, 4):
        raise BadInput(
            f"{path.stem} has the shape {voxels.shape} and an affine of {np.shape(affine)}, expected 3 axes and (4, 4)."
        )
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), np.asarray(affine, np.float64)), path)
    return path


def _loaded(file: Path) -> nib.Nifti1Image:
    """Return an image in memory, which does not need its file any more."""
    import nibabel as nib
    import numpy as np

    image: Any = nib.load(file)
    return nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
