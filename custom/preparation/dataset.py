"""A folder of raw studies as a dataset in BraTS layout, with a table and a page of pictures to look at."""

from __future__ import annotations

import csv
import html
import io
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from custom.common.atomic_files import folder_beside, require_writable, written_beside
from custom.common.errors import BadInput
from custom.common.grid import grid_of
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.common.resample import resample
from custom.common.workers import start_worker
from custom.data.datasets import find_studies
from custom.data.find import ImageSpec
from custom.data.load import load_each_modality, load_mask
from custom.data.private_paths import without_paths
from custom.data.study import Study
from custom.preparation.picture import save_picture
from custom.preparation.prepare import Prepared, prepare
from custom.preparation.prepare_study import describe, save_image, write_prepared
from custom.preparation.quality import check, measure
from custom.preparation.template import ATLAS

logger = logging.getLogger(__name__)

TABLE, SHEET, PICTURES = "preparation.csv", "contact_sheet.html", "pictures"
COLUMNS = ("id", "status", "reason", "seconds", "brain_ml", "overlap_of_masks", "overlap_with_atlas", "tilt_degrees")
DONE, SKIPPED, REFUSED = "done", "skipped", "refused"


def prepare_dataset(
    dataset_dir: ImageSpec,
    output_dir: Path,
    workers: int = 1,
    channel_order: Sequence[str] = MSD_CHANNELS,
    dicom_ids: str = "hash",
) -> list[dict[str, Any]]:
    """Prepare every study of a folder: ``<output_dir>/<id>/<id>_{flair,t1,t2,t1ce,seg}.nii.gz``.

    Beside each lies ``<id>_preparation.json``, with the transforms and the figures of quality control. A study that has
    one is skipped, so that a run that was stopped goes on where it was. A mask on the grid of one of the images is
    brought along. A study that is refused leaves its picture and a row in the table, and nothing else.

    Args:
        dataset_dir: as `custom.data.datasets.find_studies` takes it.
        output_dir: the folder of the new dataset.
        workers: how many studies are prepared at a time, each in a process of its own with 2 GB of memory.
        channel_order: modality of each channel of a 4-D file.
        dicom_ids: what DICOM studies are called, see `custom.dicom.study.find_dicom`.

    Returns:
        A row of `TABLE` for each study.

    Raises:
        BadInput: no studies are found, nothing can be written to ``output_dir``, or images of a study lie where its
            prepared ones would be written.
    """
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise BadInput(f"--workers has the value {workers!r}, expected a whole number from 1 on.")
    require_writable(output_dir)
    items = find_studies(
        dataset_dir,
        "all",
        channel_order=channel_order,
        modalities=(),
        optional=MODALITIES,
        masks="optional",
        dicom_ids=dicom_ids,
        keep_broken=True,
        raw="true",
    )
    _require_no_input(output_dir, items)
    (output_dir / PICTURES).mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    waiting = []
    for item in items:
        if "error" in item:
            rows[item["id"]] = {"id": item["id"], "status": REFUSED, "reason": item["error"]}
        elif _record_of(output_dir, item["id"]).is_file():
            rows[item["id"]] = {"id": item["id"], "status": SKIPPED, "reason": "it is there"}
        else:
            waiting.append(item)
    threads = max(1, (os.cpu_count() or 1) // workers)
    # not forked: PyTorch and ITK have threads, of which a fork would lose all but one
    with ProcessPoolExecutor(workers, get_context("spawn"), start_worker, (threads,)) as pool:
        running = {pool.submit(_prepare_one, item["image"], item.get("label"), output_dir): item for item in waiting}
        for done, future in enumerate(as_completed(running), start=1):
            study_id = running[future]["id"]
            try:
                rows[study_id] = future.result()
            except Exception as error:  # one study must not stop the others
                rows[study_id] = {"id": study_id, "status": REFUSED, "reason": f"{type(error).__name__}: {error}"}
            logger.info("%d of %d: %s %s", done, len(waiting), study_id, rows[study_id]["status"])
            _write_overview(output_dir, rows, items, dataset_dir)
    _write_overview(output_dir, rows, items, dataset_dir)
    return [rows[item["id"]] for item in items]


def _require_no_input(output_dir: Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Raise `BadInput` if an image or mask of a study that has not been prepared lies in its folder of results."""
    for item in items:
        if "error" in item or _record_of(output_dir, item["id"]).is_file():
            continue
        study, folder = item["image"], (output_dir / item["id"]).resolve()
        for file in study.all_files:
            if folder in (file.resolve().parent, file.absolute().parent):
                raise BadInput(
                    f"{file} lies where the prepared images of {study.id} would be written and could be overwritten, "
                    "expected an --output_dir elsewhere."
                )


def _prepare_one(study: Study, label: str | None, output_dir: Path) -> dict[str, Any]:
    """Prepare one study and return its row."""
    started = time.perf_counter()
    row: dict[str, Any] = {"id": study.id, "status": DONE, "reason": ""}
    try:
        images = load_each_modality(study)
        study_in_atlas = prepare(images)
        figures = measure(study_in_atlas)
        row |= {name: figures[name] for name in COLUMNS if name in figures}
        save_picture(study_in_atlas, output_dir / PICTURES / f"{study.id}.png")
        check(figures, study_in_atlas.reference)
        mask = None if label is None else mask_in_atlas(load_mask(Path(label)), study_in_atlas, label)
        record = {"raw": True, **describe(study_in_atlas), "figures": figures}
        _write(study_in_atlas, mask, record, study.id, output_dir)
    except BadInput as error:
        row |= {"status": REFUSED, "reason": str(error)}
    return {**row, "seconds": round(time.perf_counter() - started, 1)}


def mask_in_atlas(mask: MetaTensor, study: Prepared, name: str) -> MetaTensor:
    """Return a mask (1, H, W, D) that was drawn on one of a study's images in the atlas; labels stay what they are.

    Raises:
        BadInput: it is on the grid of none of them.
    """
    grid = grid_of(mask)
    drawn_on = next((name for name, other in study.grids.items() if grid.is_that_of(other)), None)
    if drawn_on is None:
        raise BadInput(f"{name} is on another grid than each of the images, expected that of the one it was drawn on.")
    # each label by itself, so that an edge between 1 and 4 does not become 2
    shares = [
        resample(MetaTensor((mask == value).float(), affine=mask.affine), ATLAS, study.transforms[drawn_on]).as_tensor()
        for value in (0, 1, 2, 4)
    ]
    shares[0] = shares[0] + (1 - sum(shares))  # outside the image nothing is marked
    winner = torch.stack(shares).argmax(0)
    voxels = torch.tensor([0, 1, 2, 4], dtype=torch.uint8)[winner]
    return MetaTensor(voxels, affine=torch.from_numpy(ATLAS.affine), meta={"space": "RAS"})


def _record_of(output_dir: Path, study_id: str) -> Path:
    return output_dir / study_id / f"{study_id}_preparation.json"


def _write(
    study: Prepared, mask: MetaTensor | None, record: Mapping[str, Any], study_id: str, output_dir: Path
) -> None:
    """Write the files of a study beside and rename them into place, the record last."""
    folder = output_dir / study_id
    folder.mkdir(parents=True, exist_ok=True)
    with folder_beside(folder) as temporary:
        write_prepared(study, temporary, study_id, compressed=True)
        if mask is not None:
            save_image(mask, temporary / f"{study_id}_seg.nii.gz", np.uint8)
        written = sorted(temporary.iterdir())
        record_file = temporary / _record_of(output_dir, study_id).name
        record_file.write_text(json.dumps(record, indent=2) + "\n")
        for file in (*written, record_file):
            file.rename(folder / file.name)


def _write_overview(
    output_dir: Path, by_id: Mapping[str, Mapping[str, Any]], items: Sequence[Mapping[str, Any]], dataset_dir: object
) -> None:
    """Write the table, and a page with a picture of each study that has a row."""
    rows = []
    for item in items:
        if row := by_id.get(item["id"]):
            rows.append({**row, "reason": without_paths(row["reason"], item, [dataset_dir, output_dir])})
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    with written_beside(output_dir / TABLE) as file:
        file.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")
    parts = []
    for row in rows:
        name, said = html.escape(str(row["id"])), html.escape(f"{row['status']}: {row['reason']}".rstrip(": "))
        shown = f'<img src="{PICTURES}/{name}.png" alt="{name}, sections of its images" loading="lazy">'
        there = (output_dir / PICTURES / f"{row['id']}.png").is_file()
        parts.append(f"<h2>{name}</h2><p>{said}</p>{shown if there else ''}")
    page = f"{HEAD}{''.join(parts)}</body></html>\n"
    with written_beside(output_dir / SHEET) as file:
        file.write_text(page, encoding="utf-8", errors="backslashreplace")


HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Prepared studies</title>'
    "<style>body{font:15px system-ui,sans-serif;margin:20px;background:#111;color:#eee}img{max-width:100%}</style>"
    "</head><body><h1>Prepared studies</h1><p>A row for each modality. The patient's right is on the left. Rows "
    "that do not show the same anatomy at the same place were registered wrongly.</p>"
)
