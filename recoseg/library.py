"""Segmentation and synthesis as functions: the bundles' own configs, without files unless they are asked for."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
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
# Options of the config that a call sets, or that have no effect in one.
OF_A_CALL = ("dataset_dir", "datalist", "output_dir", "report", "save_maps", "table#as_json")


@contextmanager
def _bad_input_as_value_error(temporary: str = "") -> Iterator[None]:
    """Raise bad input as a plain `ValueError`.

    A process that has not imported the bundles' code, such as the one that started a pool of processes, cannot read the
    error of the bundles that another process sends it, and waits for ever.

    Args:
        temporary: a folder that will be gone; the message does not send anyone there.
    """
    from custom.common.errors import find_bad_input

    try:
        yield
    except Exception as error:
        if bad_input := find_bad_input(error):  # MONAI's own error names only the transform that failed
            message = str(bad_input)
            if temporary:
                message = re.sub(f" See {re.escape(temporary)}.*", "", message).replace(f"{temporary}{os.sep}", "")
            raise ValueError(message) from None
        raise


class Model:
    """A bundle whose networks stay loaded; `load` makes it. Call it with a study.

    Calls from several threads wait for one another. A process that gets the model from another one loads it again.

    Args:
        task: "segment" or "synthesize".
        options: options of the bundle's inference.json.

    Raises:
        ValueError: one sentence: an option is unknown or set by each call, or the weights cannot be read.
    """

    def __init__(self, task: str, options: Mapping[str, Any]) -> None:
        if task not in KEPT:
            raise ValueError(f"The task is {task!r}, expected {' or '.join(KEPT)}.")
        if wrong := [name for name in options if name in OF_A_CALL]:
            raise ValueError(f"The option {wrong[0]} has no effect on a model, expected arguments of the call for it.")
        self.task, self.options = task, dict(options)
        self.bundle, kept, self.result = KEPT[task]
        with custom_in_use(), _bad_input_as_value_error():
            from custom.common.options import require_known

            self.config: dict[str, Any] = {"bundle_root": str(self.bundle), **options}
            parser = self._parser()
            require_known(parser, self.config)
            parser.update(self.config)
            self.kept = {name: parser.get_parsed_content(name) for name in kept}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what loads the model again: its parts are of modules that another process cannot import by itself."""
        return Model, (self.task, self.options)

    def __call__(
        self,
        images: Any,
        affine: Any = None,
        *,
        id: str | None = None,
        output_dir: str | PathLike[str] | None = None,
        report: bool = False,
    ) -> Any:
        """Return the `Segmentation`, or the `Synthesis`, of one study.

        Args:
            images: a path in any form that the command takes; a mapping of the modalities flair, t1, t2 and t1ce, of
                which some may be missing, to paths, nibabel images, arrays (H, W, D) or TorchIO images; or a TorchIO
                subject, whose other images are not used. Images in memory pass through a temporary folder.
            affine: (4, 4) voxel to mm in RAS, of arrays.
            id: name of the study; without it that of its files, or "study" if its first image is in memory.
            output_dir: also write the results to ``<output_dir>/<id>``, as the command does; None writes nothing.
            report: with ``output_dir``, write the HTML report, too. A segmentation only.

        Raises:
            ValueError: one sentence: the study cannot be used, or ``output_dir`` not be written to.
        """
        with custom_in_use(), tempfile.TemporaryDirectory() as temporary, _bad_input_as_value_error(temporary):
            from custom.common.errors import BadInput
            from custom.common.file_names import require_file_name

            if report and output_dir is None:
                raise BadInput("A report is asked for without a folder, expected an output_dir.")
            if id is not None:
                require_file_name(id, "The id of a study")
            study = _as_files(images, affine, id or "study", Path(temporary))
            folder = Path(temporary) / "results" if output_dir is None else _absolute(output_dir, "output_dir")
            parser = self._parser()
            parser.update({**self.config, **self.kept, "dataset_dir": study, "output_dir": folder})
            if report:
                parser.update({"report": True})
            studies = parser.get_parsed_content("studies")
            if len(studies) != 1:
                raise BadInput(f"{images} has {len(studies)} studies, expected one; call the model for each.")
            if id is not None:  # the list is that of the whole config
                studies[0] |= {"id": id, "image": replace(studies[0]["image"], id=id)}
            evaluator = parser.get_parsed_content("evaluator")
            evaluator.logger = logging.Logger(__name__, logging.CRITICAL)  # ignite logs errors that it raises, too
            evaluator.run()
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
    id: str | None = None,
    output_dir: str | PathLike[str] | None = None,
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
    id: str | None = None,
    output_dir: str | PathLike[str] | None = None,
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


def _as_files(images: Any, affine: Any, study_id: str, folder: Path) -> Path | dict[str, Path]:
    """Return a study in a form that the config takes; images in memory are written to ``folder``."""
    from custom.common.errors import BadInput
    from custom.common.modalities import MODALITIES

    if not isinstance(images, (str, PathLike, Mapping)):
        raise BadInput(
            f"The images have the type {type(images).__name__}, expected a path, a TorchIO subject or a mapping such "
            'as {"flair": image, "t1": image, "t2": image, "t1ce": image}.'
        )
    if not isinstance(images, Mapping):
        images = {"": images}
    elif hasattr(images, "get_images_dict"):  # a TorchIO subject, which may also hold masks and text
        images = {name: images[name] for name in MODALITIES if name in images}
    in_memory = {name for name, image in images.items() if not isinstance(image, (str, PathLike))}
    if affine is not None and all(hasattr(images[name], "affine") for name in in_memory):
        raise BadInput("An affine is given, and no array that it could be of, expected it with arrays only.")
    files = {
        str(name): _written(image, folder / f"{study_id}_{name}.nii", affine)
        if name in in_memory
        else _absolute(image, "images")
        for name, image in images.items()
    }
    return files[""] if set(files) == {""} else files


def _absolute(path: str | PathLike[str], name: str) -> Path:
    """Return an absolute path; in a text, a config takes $, @, % and # for parts of an expression."""
    from custom.common.cli_flags import as_path

    return as_path(path, name).absolute()


def _written(image: Any, path: Path, affine: Any) -> Path:
    """Write an image in memory, uncompressed, and return its file."""
    import nibabel as nib
    import numpy as np

    if hasattr(image, "dataobj"):  # of nibabel, which would round the values again if the type on disk is an integer
        _require_numbers(image.dataobj.dtype, path.stem)
        voxels = np.asarray(image.dataobj, np.float32)
        nib.save(nib.Nifti1Image(voxels, image.affine, image.header, dtype=np.float32), path)
        return path
    from custom.common.errors import BadInput

    if hasattr(image, "affine"):  # of TorchIO, (1, H, W, D), or MONAI
        affine, image = image.affine, image.data
        image = image[0] if image.ndim == 4 and len(image) == 1 else image
    elif affine is None:
        raise BadInput(f"{path.stem} is an array without an affine, expected segment(images, affine).")
    voxels = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    if voxels.ndim != 3 or np.shape(affine) != (4, 4):
        raise BadInput(
            f"{path.stem} has the shape {voxels.shape} and an affine of {np.shape(affine)}, expected 3 axes and (4, 4)."
        )
    _require_numbers(voxels.dtype, path.stem)
    with np.errstate(over="ignore"):  # the loader says what it does with infinity
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), _checked(affine, path.stem)), path)
    return path


def _require_numbers(dtype: Any, name: str) -> None:
    """Refuse voxels that are no real numbers, of which a part would be lost."""
    from custom.common.errors import BadInput

    if dtype.kind not in "biuf":
        raise BadInput(f"{name} has voxels of the type {dtype}, expected one real number per voxel.")


def _checked(affine: Any, name: str) -> Any:
    """Return an affine (4, 4) as an array; NIfTI keeps its first three rows only, and needs axes of some length."""
    import numpy as np

    from custom.common.errors import BadInput

    try:
        found = np.asarray(affine, np.float64)
        usable = np.isfinite(found).all() and bool(np.linalg.det(found)) and np.array_equal(found[3], (0, 0, 0, 1))
    except (TypeError, ValueError):
        usable = False
    if not usable:
        expected = "numbers that can be inverted, with 0, 0, 0, 1 in the last row"
        raise BadInput(f"{name} has the affine {np.asarray(affine).tolist()}, expected {expected}.")
    return found


def _loaded(file: Path) -> nib.Nifti1Image:
    """Return an image in memory, which does not need its file any more."""
    import nibabel as nib
    import numpy as np

    image: Any = nib.load(file)
    return nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
