"""What inference leaves behind: maps on the study's own grid, and a report of where they came from."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from custom.common.atomic_files import folder_beside, require_writable, sha256
from custom.common.cli_flags import as_flag, as_path
from custom.common.grid import volume_ml
from custom.common.modalities import MODALITIES
from custom.common.provenance import origin_of
from custom.data.study import Study
from custom.dicom.registration import MOVES
from custom.inference.nifti import save_map
from custom.inference.results_folder import is_finished, relative_names, require_free

logger = logging.getLogger(__name__)

BRAIN = "brain"  # the map of a raw study that is a mask, but of no tumour


class ResultsWriter:
    """Write ``<output_dir>/<id>/<id>_<map>.nii.gz`` for each map of a study, and ``<id>_run.json``.

    A study that came as DICOM gets ``<id>_seg.dcm`` too, and its report says which series were taken. A map with a
    channel for each of several classes becomes a file for each: ``<id>_seg_wt.nii.gz``.

    MONAI's `SaveImaged` writes straight to the final name and makes a header of its own. Here all files of a study are
    written beside and renamed into place together, the run report last, with the affine of the study's file, bit for
    bit. Nothing is written over a study's images, over a result that has been edited, or over what no run wrote.

    Args:
        output_dir: where results go.
        maps: name of a map -> key of the data, (1 or classes, H, W, D) on the study's grid. A map that a study lacks is
            left out.
        studies: what `custom.data.datasets.find_studies` found.
        weights: name -> path of the weights; their SHA-256 goes into the report.
        settings: what was asked for; goes into the report.
        classes: names of a mask's channels, such as wt, tc and et; none for a mask of one.
        dataset_dir: the dataset, as it was given; the report names images relative to it.
        skip_existing: leave out studies whose results are there from the same weights and settings, see ``finished``.
        enabled: whether to write at all, as a bool or as a command line passes it on, "true" or "false".

    Attributes:
        finished: ids of the studies that are left out.

    Raises:
        BadInput: nothing can be written to ``output_dir``, or results would overwrite what they must not.
    """

    def __init__(
        self,
        output_dir: str,
        maps: Mapping[str, str],
        studies: Sequence[Mapping[str, Any]],
        weights: Mapping[str, str],
        settings: Mapping[str, Any],
        classes: Sequence[str] = (),
        dataset_dir: object = None,
        skip_existing: bool | str = False,
        enabled: bool | str = True,
    ) -> None:
        self.output_dir = as_path(output_dir, "output_dir")
        self.maps = maps
        self.studies = {study["id"]: study for study in studies}
        self.origin = origin_of(weights, settings)
        self.classes = classes
        self.dataset_dir = dataset_dir
        self.enabled = as_flag(enabled, "save_maps")
        skip_existing = as_flag(skip_existing, "skip_existing")
        self.finished = {study for study in self.studies if skip_existing and self._is_finished(study)}
        if self.enabled:
            self._require_free()
        self.started = self.read = 0.0

    def attach(self, engine: Engine) -> None:
        """Write each study that ``engine``, an evaluator with batches of one study, completes."""
        if self.enabled:
            engine.add_event_handler(Events.GET_BATCH_STARTED, self._start)
            engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._batch_read)
            # and not when the iteration is over, so that an evaluator sees what goes wrong here as the study's fault
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def _is_finished(self, study_id: str) -> bool:
        return is_finished(self.output_dir / study_id, study_id, self.origin)

    def _require_free(self) -> None:
        """Raise `BadInput` before anything is computed if results cannot be written."""
        require_writable(self.output_dir)
        for study_id, study in self.studies.items():
            if "image" in study and study_id not in self.finished:
                require_free(self.output_dir / study_id, study["image"], self.maps)

    def _start(self, engine: Engine) -> None:
        self.started = time.perf_counter()

    def _batch_read(self, engine: Engine) -> None:
        self.read = time.perf_counter()

    def __call__(self, engine: Engine) -> None:
        """Write the study that ``engine`` has just completed."""
        computed = time.perf_counter()
        data: dict[str, Any] = {**vars(engine.state)["batch"][0], **vars(engine.state)["output"][0]}
        study_id = data["id"]
        folder = self.output_dir / study_id
        folder.mkdir(parents=True, exist_ok=True)
        maps: dict[str, Any] = {}
        for name, key in self.maps.items():
            if key in data:
                maps |= _by_class(name, data[key], self.classes)
        masks = {name: image for name, image in maps.items() if name.startswith("seg")}
        source: Study = self.studies[study_id]["image"]
        report = {
            "id": study_id,
            "inputs": relative_names(source, self.dataset_dir),
            "modalities": _origin_of_modalities(data),
            "outputs": {name: f"{study_id}_{name}.nii.gz" for name in maps},
        }
        for name, mask in masks.items():
            report["tumour_volume_ml" + name.removeprefix("seg")] = round(volume_ml(mask), 3)
        preparation = json.loads(data.get("preparation", "{}"))
        if preparation:
            report["preparation"] = preparation
        if source.dicom:
            report |= source.dicom.report(data["image"].meta.get(MOVES))
        with folder_beside(folder) as temporary:
            files = {name: temporary / file for name, file in report["outputs"].items()}
            dtypes = [np.uint8 if name in masks or name == BRAIN else np.float32 for name in maps]
            with ThreadPoolExecutor() as pool:  # compression, which is most of it, runs beside other threads
                list(pool.map(save_map, maps.values(), files.values(), dtypes))
            report["outputs_sha256"] = {name: sha256(file) for name, file in files.items()}
            # a raw study has its maps on the grid of one of its series, or in the atlas, where none has slices
            grid = preparation.get("grid")
            if source.dicom and "seg" in maps and grid != "atlas":
                # not at the top: only a study in DICOM needs highdicom, which MONAI Label's older pydicom rules out
                from custom.dicom.seg_writer import write_segmentation

                report["dicom_seg"] = f"{study_id}_seg.dcm"
                slices = (source.dicom.series[grid] if grid else source.dicom.reference).files
                write_segmentation(maps["seg"], slices, temporary / report["dicom_seg"], self.origin["weights"])
            report["seconds"] = {
                "read_and_prepare": round(self.read - self.started, 2),
                "network_and_back": round(computed - self.read, 2),
                "write": round(time.perf_counter() - computed, 2),
            }
            report |= self.origin
            written = sorted(file.name for file in temporary.iterdir())
            run = f"{study_id}_run.json"
            (temporary / run).write_text(json.dumps(report, indent=2) + "\n")
            (folder / run).unlink(missing_ok=True)  # it says that all others are there, which is not true for a moment
            for name in (*written, run):
                os.replace(temporary / name, folder / name)
            written.append(run)
        volume = f"tumour {report['tumour_volume_ml']:.1f} ml, " if "seg" in maps else ""
        logger.info("%s: %s%.1f s", study_id, volume, sum(report["seconds"].values()))
        if source.dicom:
            for line in source.dicom.lines(data["image"].meta.get(MOVES)):
                logger.info("%s: %s", study_id, line)
        for modality, origin in report["modalities"].items():
            if origin != "found":
                logger.warning("%s: %s is %s", study_id, modality, origin)
        for file in written:
            logger.info("%s: %s", study_id, folder / file)


def _by_class(name: str, image: Any, classes: Sequence[str]) -> dict[str, Any]:
    """Return a map (1, H, W, D) under its name, or one with a channel for each class as a map for each."""
    if len(image) == 1:
        return {name: image}
    return {f"{name}_{each}": channel for each, channel in zip(classes, image.split(1), strict=True)}


def _origin_of_modalities(data: Mapping[str, Any]) -> dict[str, str]:
    """Return modality -> "found", "synthesized" (T1ce alone) or "missing", for a study that has been segmented."""
    found = data["modalities"].split()
    origins = {modality: "found" if modality in found else "missing" for modality in MODALITIES}
    if origins["t1ce"] == "missing" and data["t1ce_synthetic"].any():
        origins["t1ce"] = "synthesized"
    return origins
