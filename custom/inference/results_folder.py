"""The results folder of a study: its existing files, and whether a run may write there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from custom.common.atomic_files import TEMPORARY, sha256
from custom.common.errors import BadInput
from custom.common.file_names import require_file_name
from custom.common.regions import check_regions, for_each_region
from custom.data.label_scheme import check_scheme
from custom.data.study import Study

VOLUMES = "volume_ml"  # in a run report: region -> its volume
STATISTICS = "statistics"  # in a run report: region -> its measures
MOVING = "moving.json"  # in the temporary folder of a run: name -> SHA-256 of what it moves to the results and replaces

NUMBER = (int, float)
RUN_REPORT = {
    "id": str,
    "inputs": (str, {str: (str, dict)}),  # of a DICOM study, what is known of each series
    "modalities": {str: str},
    "outputs": {str: str},
    "outputs_sha256": {str: str},
    "dicom_seg": str,
    "regions": [str],
    "labels": {str: str},
    VOLUMES: {str: NUMBER},
    STATISTICS: {str: {"expected_dice": (NUMBER, type(None)), "volume_ml_90": ([NUMBER], type(None))}},
    "flags": [str],
    "preparation": dict,
    "seconds": {str: NUMBER},
    "settings": dict,
    "weights": {str: {"path": str, "sha256": str}},
    "versions": {str: str},
    "intended_use": str,
}


def read_run(folder: Path, study_id: str) -> dict[str, Any] | None:
    """Return the run report in a study's results folder, or None if it is missing or not one that a run has written.

    A run writes it last: if it exists, all other files do.
    """
    return _read(folder / f"{study_id}_run.json")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        if not has_form(run, RUN_REPORT):
            return None
        for name in (*run.get("outputs", {}).values(), *filter(None, [run.get("id"), run.get("dicom_seg")])):
            require_file_name(name, "It")  # of a file in this folder, and in no other
    except (OSError, ValueError, RecursionError):
        return None
    return dict(run)


def has_form(value: object, form: Any) -> bool:
    """Return whether a value from JSON has a form, such as `RUN_REPORT`.

    Args:
        value: the value.
        form: a type; {key: form} for the keys of a mapping that are there; {str: form} for every value of a mapping;
            [form] for every item of a list; or several forms in a tuple, of which it has one.

    >>> [has_form({"a": [1, 2]}, form) for form in ({"a": [int], "b": str}, {"a": [str]}, {str: [(str, int)]})]
    [True, False, True]
    """
    if isinstance(form, tuple):
        return any(has_form(value, each) for each in form)
    if isinstance(form, list):
        return isinstance(value, list) and all(has_form(each, form[0]) for each in value)
    if isinstance(form, dict):
        return isinstance(value, dict) and all(
            has_form(each, form.get(str, form.get(name, object))) for name, each in value.items()
        )
    return isinstance(value, form) and (form in (bool, object) or not isinstance(value, bool))


def read_segmentation(folder: Path) -> dict[str, Any]:
    """Return the run report in a study's folder of results, of a segmentation.

    Raises:
        BadInput: there is none, or it is not one that inference has written.
    """
    found = list(folder.glob("*_run.json"))
    if len(found) != 1:
        raise BadInput(f"{folder} has {len(found)} files *_run.json, expected the results of one study.")
    try:
        run = _read(found[0]) or {}
        require_file_name(run["id"], "It")
        regions = check_regions(run["regions"])
        thresholds = for_each_region(run["settings"]["threshold"], regions, "threshold")
        complete = all(0 < threshold <= 1 for threshold in thresholds)
        complete = complete and run[VOLUMES].keys() == set(regions) and {"weights", "versions"} <= run.keys()
        check_scheme(run["settings"]["label_scheme"])
    except (KeyError, TypeError, BadInput):
        complete = False
    if not complete:
        raise BadInput(f"{found[0]} cannot be read as a run report, expected the one that inference has written.")
    if not {"seg", "prob"} <= set(run["outputs"]):
        raise BadInput(f"{found[0]} names the maps {', '.join(run['outputs'])}, expected seg and prob among them.")
    return run


def edited(folder: Path, run: Mapping[str, Any]) -> list[Path]:
    """Return the files of a run that have changed since, such as a corrected mask."""
    files = {folder / name: digest for name, digest in hashes_of(run).items()}
    return [file for file, digest in files.items() if file.is_file() and sha256(file) != digest]


def is_finished(folder: Path, study_id: str, origin: Mapping[str, Any]) -> bool:
    """Return whether a study's results exist, with the same weights, settings and version.

    Args:
        folder: the study's results folder.
        study_id: the study.
        origin: provenance of the current run, from `custom.common.provenance.origin_of`.
    """
    run = read_run(folder, study_id)
    if run is None:
        return False
    outputs = [*run.get("outputs", {}).values(), *filter(None, [run.get("dicom_seg")])]
    if not all((folder / name).is_file() for name in outputs):
        return False
    return _comparable(run) == _comparable(json.loads(json.dumps(origin)))


def _comparable(origin: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the part of a provenance that determines the results, without paths and devices."""
    settings = {
        name: value for name, value in origin.get("settings", {}).items() if name not in ("device", "precision")
    }
    weights = {name: entry.get("sha256") for name, entry in origin.get("weights", {}).items()}
    return settings, weights, origin.get("versions", {}).get("recoseg")


def require_free(folder: Path, study: Study, names: Iterable[str], target: str | None = None) -> None:
    """Raise `BadInput` if results in ``folder`` would be mixed with a study's images or overwrite other files.

    Args:
        folder: the study's results folder.
        study: the study.
        names: maps that the run writes, such as seg.
        target: the modality that the run synthesizes; None if it segments.
    """
    place, files = folder.resolve(), study.all_files
    # links are also checked without following them: the folder of a link to an image is the study's folder too
    if any(place in (*file.resolve().parents, *file.absolute().parents) for file in files):
        raise BadInput(
            f"The results of {study.id} would be written among its images, in {folder}, expected an --output_dir "
            "elsewhere: a mask there could be overwritten, or a result be mistaken for an image."
        )
    run = read_run(folder, study.id) or {}
    if changed := edited(folder, run):
        raise BadInput(
            f"{changed[0]} has been edited since it was written and would be overwritten, expected an "
            "--output_dir without it; move it elsewhere to have it made again, or keep it with --skip_existing."
        )
    if run and run.get("settings", {}).get("target") != target:
        raise BadInput(
            f"{folder} has the results of another task, the maps {', '.join(run.get('outputs', {}))}, which would be "
            "replaced, expected another --output_dir."
        )
    known = set(hashes_of(run)) | _of_a_killed_run(folder)
    results = tuple(f"{study.id}_{name}" for name in names)
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.name.startswith(results) and file.name not in known:
            raise BadInput(
                f"{file} exists and is not listed with its SHA-256 in a run report {study.id}_run.json, "
                "expected an --output_dir where nothing is overwritten."
            )


def hashes_of(run: Mapping[str, Any]) -> dict[str, str]:
    """Return file name -> SHA-256 of what a run wrote, the DICOM SEG included."""
    outputs = {**run.get("outputs", {}), "dicom_seg": run.get("dicom_seg")}
    return {outputs[name]: digest for name, digest in run.get("outputs_sha256", {}).items() if outputs.get(name)}


def _of_a_killed_run(folder: Path) -> set[str]:
    """Return the names of the files that a run was moving to ``folder`` when it was killed.

    It lists them in its temporary folder before it moves the first one; a file of another content is not its own.
    """
    moved: set[str] = set()
    for left in folder.glob(f"{TEMPORARY}*/{MOVING}"):
        try:
            listed = json.loads(left.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        there = {name: digests for name, digests in listed.items() if (folder / name).is_file()}
        moved |= {name for name, digests in there.items() if sha256(folder / name) in digests}
    return moved


def outdated(folder: Path, run: Mapping[str, Any]) -> list[Path]:
    """Return the files of the former run that ``run`` does not replace: maps it does not make, and the HTML report.

    Args:
        folder: the study's results folder, with the run report of the former run.
        run: the new run report.
    """
    former = read_run(folder, run["id"])
    if former is None:
        return []
    names = {*hashes_of(former), f"{run['id']}_report.html"} - hashes_of(run).keys()
    return [folder / name for name in sorted(names) if (folder / name).is_file()]


def moving(folder: Path, temporary: Path, names: Iterable[str], run: Mapping[str, Any]) -> str:
    """Return the text of `MOVING`: which files are being moved from ``temporary``, and which they replace.

    Args:
        folder: the study's results folder.
        temporary: the folder with the files.
        names: their names.
        run: their run report.
    """
    new, old = hashes_of(run), hashes_of(read_run(folder, run["id"]) or {})
    hashes = {name: [new.get(name) or sha256(temporary / name)] for name in names}
    for name, digest in old.items():
        hashes.setdefault(name, []).append(digest)
    return json.dumps(hashes)


def relative_names(study: Study, dataset_dir: object) -> str | dict[str, str]:
    """Return the names of a study's images relative to the dataset's folder, whose own path is not reported.

    Args:
        study: the study.
        dataset_dir: the dataset's folder, one study's folder or file, or anything else, such as {modality: file}.

    Returns:
        {modality: name}, or the name of the 4-D file; for images outside the folder, the file's name only.
    """
    folder = Path(dataset_dir).expanduser().absolute() if isinstance(dataset_dir, (str, Path)) else None
    if folder is not None and folder.is_file():
        folder = folder.parent

    def name_of(file: Path) -> str:
        whole = file.expanduser().absolute()
        return str(whole.relative_to(folder)) if folder and whole.is_relative_to(folder) else whole.name

    if study.channels:
        return name_of(study.reference)
    return {modality: name_of(file) for modality, file in study.images.items()}
