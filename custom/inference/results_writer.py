"""Results of inference: maps on the study's own grid, and a run report with their provenance."""

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
from custom.common.brain import is_brain
from custom.common.cli_flags import as_flag, as_path
from custom.common.grid import grid_of
from custom.common.labels import NAMES
from custom.common.modalities import MODALITIES
from custom.common.provenance import origin_of
from custom.common.regions import TITLES, check_regions
from custom.data.label_scheme import values_of
from custom.data.regions import PARTS
from custom.data.study import Study
from custom.dicom.registration import MOVES
from custom.inference.confidence import Confidence
from custom.inference.measures import measure_regions
from custom.inference.nifti import save_map
from custom.inference.results_folder import (
    MOVING,
    STATISTICS,
    VOLUMES,
    is_finished,
    moving,
    outdated,
    relative_names,
    require_free,
)

logger = logging.getLogger(__name__)

BRAIN = "brain"  # the map of a raw study that is a mask, but of no tumour


class ResultsWriter:
    """Write ``<output_dir>/<id>/<id>_<map>.nii.gz`` for each map of a study, and ``<id>_run.json``.

    A DICOM study also gets ``<id>_seg.dcm``, and its report lists the series used. A map with several channels is
    written as a 4-D file. The run report contains the measures of each region (`custom.inference.measures.measure`),
    flags, and the meaning of the values of the label map ``seg``.

    MONAI's `SaveImaged` writes directly to the final name and changes the header. Here all files of a study are written
    to a temporary folder and then renamed, the run report last; the affine is that of the study's file, bit for bit. A
    study's images, results that have been edited, and files that no run has written are never overwritten.

    Args:
        output_dir: folder for the results.
        maps: name of a map -> key of the data, (C, H, W, D) on the study's grid. Missing maps are skipped.
        studies: the studies from `custom.data.datasets.find_studies`.
        weights: name -> path of the weights; their SHA-256 is reported.
        settings: settings of the run, which are reported.
        regions: names of the regions: the channels of the data's ``masks`` and of a map of probabilities; empty if
            nothing is segmented.
        label_scheme: meaning of the values of the map ``seg``, a key of `custom.data.label_scheme.SCHEMES`.
        dataset_dir: the dataset, as given; images are reported relative to it.
        skip_existing: skip studies whose results exist with the same weights and settings, see ``finished``.
        enabled: whether results are written: a bool, or "true" or "false" from a command line.
        confidence: says how far the masks can be trusted, from the map ``prob`` and the weights ``recoseg_seg``; None
            if nothing is segmented.

    Attributes:
        finished: ids of the studies that are skipped.

    Raises:
        BadInput: ``output_dir`` cannot be written to, or results would overwrite other files.
    """

    def __init__(
        self,
        output_dir: str,
        maps: Mapping[str, str],
        studies: Sequence[Mapping[str, Any]],
        weights: Mapping[str, str | None],
        settings: Mapping[str, Any],
        regions: Sequence[str] = (),
        label_scheme: str = "",
        dataset_dir: object = None,
        skip_existing: bool | str = False,
        enabled: bool | str = True,
        confidence: Confidence | None = None,
    ) -> None:
        self.output_dir = as_path(output_dir, "output_dir")
        self.maps = maps
        self.studies = {study["id"]: study for study in studies}
        self.origin = origin_of(weights, settings)
        self.regions = regions
        self.parts = values_of(label_scheme, sorted(PARTS[check_regions(regions)])) if regions else {}
        self.dataset_dir = dataset_dir
        self.enabled = as_flag(enabled, "save_maps")
        skip_existing = as_flag(skip_existing, "skip_existing")
        self.finished = {study for study in self.studies if skip_existing and self._is_finished(study)}
        if self.enabled:
            self._require_free()
        self.confidence = confidence
        self.started = self.read = 0.0

    def attach(self, engine: Engine) -> None:
        """Write each study that ``engine``, an evaluator with batches of one study, completes."""
        if self.enabled:
            engine.add_event_handler(Events.GET_BATCH_STARTED, self._start)
            engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._batch_read)
            # not after the iteration, so that the evaluator attributes an error here to the study
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def _is_finished(self, study_id: str) -> bool:
        return is_finished(self.output_dir / study_id, study_id, self.origin)

    def _require_free(self) -> None:
        """Raise `BadInput` before anything is computed if results cannot be written."""
        require_writable(self.output_dir)
        for study_id, study in self.studies.items():
            if "image" in study and study_id not in self.finished:
                target = self.origin["settings"].get("target")
                require_free(self.output_dir / study_id, study["image"], self.maps, target)

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
        maps = {name: data[key] for name, key in self.maps.items() if key in data}
        source: Study = self.studies[study_id]["image"]
        report = {
            "id": study_id,
            "inputs": relative_names(source, self.dataset_dir),
            "modalities": _origin_of_modalities(data),
            "outputs": {name: f"{study_id}_{name}.nii.gz" for name in maps},
        }
        report["flags"] = [f"{name} is {origin}" for name, origin in report["modalities"].items() if origin != "found"]
        if self.regions:
            masks = data["masks"]
            report["regions"] = list(self.regions)
            report["labels"] = {str(value): NAMES[part] for part, value in self.parts.items()}
            inside = masks.cpu().numpy() > 0
            report[STATISTICS] = measure_regions(inside, self.regions, grid_of(masks).affine, _brain_of(data))
            report[VOLUMES] = {region: found["volume_ml"] for region, found in report[STATISTICS].items()}
            report["flags"] += _flags_of(inside[0])
            if self.confidence is not None:
                complete = all(origin == "found" for origin in report["modalities"].values())
                weights = {name: entry["sha256"] for name, entry in self.origin["weights"].items()}
                found, flags = self.confidence(data["prob"].cpu().numpy(), inside, report[VOLUMES], weights, complete)
                for region, measures in found.items():
                    report[STATISTICS][region] |= measures
                report["flags"] += flags
        preparation = json.loads(data.get("preparation", "{}"))
        if preparation:
            report["preparation"] = preparation
        if source.dicom:
            report |= source.dicom.report(data["image"].meta.get(MOVES))
        with folder_beside(folder) as temporary:
            files = {name: temporary / file for name, file in report["outputs"].items()}
            dtypes = [np.uint8 if name in ("seg", BRAIN) else np.float32 for name in maps]
            with ThreadPoolExecutor() as pool:  # most of the time is compression, which releases the GIL
                thousandths = [name == "prob" for name in maps]  # three channels, which would take longest
                list(pool.map(save_map, maps.values(), files.values(), dtypes, thousandths))
            report["outputs_sha256"] = {name: sha256(file) for name, file in files.items()}
            # maps of a raw study are on the grid of one of its series, or in the atlas, which has no series
            grid = preparation.get("grid")
            if source.dicom and "seg" in maps and grid != "atlas":
                # not at the top of the file: highdicom cannot be installed together with MONAI Label
                from custom.dicom.seg_writer import write_segmentation

                report["dicom_seg"] = f"{study_id}_seg.dcm"
                slices = (source.dicom.series[grid] if grid else source.dicom.reference).files
                write_segmentation(
                    maps["seg"], self.parts, slices, temporary / report["dicom_seg"], self.origin["weights"]
                )
                report["outputs_sha256"]["dicom_seg"] = sha256(temporary / report["dicom_seg"])
            report["seconds"] = {
                "read_and_prepare": round(self.read - self.started, 2),
                "network_and_back": round(computed - self.read, 2),
                "write": round(time.perf_counter() - computed, 2),
            }
            report |= self.origin
            written = sorted(file.name for file in temporary.iterdir())
            run = f"{study_id}_run.json"
            (temporary / run).write_text(json.dumps(report, indent=2) + "\n")
            (temporary / MOVING).write_text(moving(folder, temporary, [*written, run], report), encoding="utf-8")
            former = outdated(folder, report)
            (folder / run).unlink(missing_ok=True)  # it states that all other files exist, which is briefly not true
            for name in (*written, run):
                os.replace(temporary / name, folder / name)
            for old in former:
                old.unlink()
            written.append(run)
        volumes = [f"{TITLES[region]} {ml:.1f} ml" for region, ml in report.get(VOLUMES, {}).items()]
        logger.info("%s: %s", study_id, ", ".join([*volumes, f"{sum(report['seconds'].values()):.1f} s"]))
        if source.dicom:
            for line in source.dicom.lines(data["image"].meta.get(MOVES)):
                logger.info("%s: %s", study_id, line)
        for flag in report["flags"]:
            logger.warning("%s: %s", study_id, flag)
        for file in written:
            logger.info("%s: %s", study_id, folder / file)


def _brain_of(data: Mapping[str, Any]) -> np.ndarray | None:
    """Return the brain on the grid of the maps, (H, W, D) bool, of a study that has been processed."""
    if "brain_mask" in data:  # of a raw study
        return data["brain_mask"][0].cpu().numpy() > 0
    return is_brain(data["original"]).any(dim=0).cpu().numpy() if "original" in data else None


def _flags_of(tumour: np.ndarray) -> list[str]:
    """Return what a reader of the numbers should know of a mask of the whole tumour, (H, W, D) bool."""
    if not tumour.any():
        return ["no tumour was found"]
    edges = [face for axis in range(3) for face in (tumour.take(0, axis), tumour.take(-1, axis))]
    return ["the tumour reaches the edge of the image"] if any(face.any() for face in edges) else []


def _origin_of_modalities(data: Mapping[str, Any]) -> dict[str, str]:
    """Return modality -> "found", "synthesized" or "missing", for a study that has been processed."""
    origins = {}
    for modality in MODALITIES:
        synthetic = data.get(f"{modality}_synthetic")
        if modality in data["modalities"].split():
            origins[modality] = "found"
        else:
            origins[modality] = "missing" if synthetic is None or not synthetic.any() else "synthesized"
    return origins
