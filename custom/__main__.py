"""The project's own commands: ``python -m custom <command>``. Everything else is ``python -m monai.bundle``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fire

from custom.common.cli_flags import as_flag, as_path
from custom.common.errors import BadInput, StudiesFailed
from custom.common.modalities import MODALITIES, MSD_CHANNELS

if TYPE_CHECKING:
    from custom.data.find import ImageSpec

# Each command imports what it needs, since importing PyTorch and MONAI takes seconds.

TEXT = ("str", "str | None", "ImageSpec", "ImageSpec | None")  # annotations of arguments that stay text
BUNDLES_DIR = Path(__file__).resolve().parents[1] / "bundles"


def demo_study(output_dir: str, study_id: str = "demo_000", seed: int = 0, raw: bool = False) -> str:
    """Generate a study in BraTS layout: four modalities and a mask, without patient data.

    Example: python -m custom demo_study demo

    Args:
        output_dir: folder in which the study's folder is created.
        study_id: name of the study.
        seed: seed of the anatomy and the tumour.
        raw: generate it as a scanner would, with skull, unregistered and in slices of up to 5 mm; without a mask.

    Returns:
        The study's folder.
    """
    if as_flag(raw, "raw"):
        from custom.preparation.raw_phantom import make_raw_study

        return str(make_raw_study(as_path(output_dir, "output_dir"), study_id, seed))
    from custom.data.phantom import make_study

    return str(make_study(as_path(output_dir, "output_dir"), study_id, seed))


def check(
    dataset_dir: ImageSpec,
    channel_order: tuple[str, ...] = MSD_CHANNELS,
    masks: str = "optional",
    dicom_ids: str = "hash",
    label_scheme: str = "auto",
    datalist: str | None = None,
    modalities: tuple[str, ...] = MODALITIES,
    jobs: int = 1,
    as_json: bool = False,
) -> None:
    """Read every study of a dataset, or one study, and print what was found or what is wrong.

    Of a dataset, prints one table with what is wrong with each study and between studies: unusual sizes, and the same
    scan under another name. Exit status 1 if a study cannot be used or a scan is in two sections of the datalist.

    Example: python -m custom check BraTS2020_TrainingData --masks required --jobs 4

    Args:
        dataset_dir: a dataset's folder, one study's folder, or one 4-D file; for DICOM, prints the chosen series.
        channel_order: modality of each channel of a 4-D file.
        masks: "required" (every study must have one), "optional", or "none" (masks are ignored).
        dicom_ids: "hash", or "folder" to name a DICOM study after its folder.
        label_scheme: meaning of mask values: auto, brats2013, brats2021, brats2023, brats2024, msd or whole_tumour.
        datalist: a MONAI datalist (JSON): checks its studies, and whether a scan is in two of its sections.
        modalities: the modalities that every study must have; others that are missing are warnings.
        jobs: number of studies at a time, each in a process of its own with 1 GB of memory.
        as_json: print everything as JSON.
    """
    import json
    import logging

    from custom.data.check_dataset import check_dataset
    from custom.data.datasets import find_studies
    from custom.data.findings import ERROR, in_numbers, in_words, of_each_study, summary, table, warnings_of_custom

    required = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    if unknown := set(required) - set(MODALITIES):
        raise BadInput(f"--modalities has {sorted(map(str, unknown))[0]!r}, expected some of {', '.join(MODALITIES)}.")
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise BadInput(f"--jobs has the value {jobs!r}, expected a whole number from 1 on.")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("custom").setLevel(logging.INFO)
    with warnings_of_custom() as noticed:
        items = find_studies(
            dataset_dir,
            "all",
            None if datalist is None else as_path(datalist, "datalist"),
            channel_order=channel_order,
            modalities=required,
            optional=[modality for modality in MODALITIES if modality not in required],
            masks=masks,
            dicom_ids=dicom_ids,
            keep_broken=True,
            keep_only=True,
        )
    studies = check_dataset(items, jobs, channel_order, label_scheme)
    of_all = of_each_study(noticed, items, studies)
    findings = [*of_all, *(finding for one in studies for finding in one.findings)]
    if as_flag(as_json, "as_json"):
        print(json.dumps(summary(studies, of_all), indent=2))
    else:
        if len(studies) == 1 and studies[0].usable:
            print(in_words(studies[0]))
        if findings:
            print(table(findings))
        if all(one.usable for one in studies):
            print(f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}, all readable.")
    if errors := [one for one in findings if one.severity == ERROR]:
        raise StudiesFailed(errors[0].text if len(studies) == 1 else in_numbers(studies))


def prepare(
    dataset_dir: ImageSpec,
    output_dir: str,
    workers: int = 1,
    channel_order: tuple[str, ...] = MSD_CHANNELS,
    dicom_ids: str = "hash",
) -> None:
    """Register, strip and align the raw studies of a folder: the result is a dataset in BraTS layout.

    Also writes preparation.csv, a row for each study, and contact_sheet.html, a picture of each. Studies that are there
    are skipped, so that the command can be repeated after an interruption. Exit status 1 if a study was refused.

    Example: python -m custom prepare scans prepared --workers 2

    Args:
        dataset_dir: folder of raw studies in NIfTI, BIDS or DICOM, or one study.
        output_dir: folder of the new dataset.
        workers: number of studies at a time; each takes 2 GB of memory.
        channel_order: modality of each channel of a 4-D file.
        dicom_ids: "hash", or "folder" to name a DICOM study after its folder.
    """
    import logging

    from custom.preparation.dataset import REFUSED, SHEET, prepare_dataset

    logging.basicConfig(format="%(message)s")
    logging.getLogger("custom").setLevel(logging.INFO)
    folder = as_path(output_dir, "output_dir")
    rows = prepare_dataset(dataset_dir, folder, workers, channel_order, dicom_ids)
    refused = [row for row in rows if row["status"] == REFUSED]
    print(f"{len(rows)} studies, {len(refused)} refused; look at {folder / SHEET}")
    for row in refused:
        print(f"  {row['id']}: {row['reason']}")
    if refused:
        raise StudiesFailed(f"{len(refused)} of {len(rows)} studies were refused, see {folder / 'preparation.csv'}.")


def dice(mask: str, truth: str, label_scheme: str = "auto") -> str:
    """Compare a mask with the ground truth of the same study, region by region.

    Example: python -m custom dice demo/results/demo_000/demo_000_seg.nii.gz demo/demo_000/demo_000_seg.nii.gz

    Args:
        mask: file of the mask.
        truth: file of the ground-truth mask.
        label_scheme: what the values of both masks mean, see `check`; auto takes a mask of 0 and 1 as whole tumour.

    Returns:
        A line for each region: Dice and both volumes in ml. A region that one of the masks does not tell has no line.

    Raises:
        BadInput: the masks are on different grids.
    """
    from custom.common.grid import grid_of, voxel_mm3
    from custom.common.regions import REGIONS, TITLES
    from custom.data.load import load_mask
    from custom.data.regions import regions_of
    from custom.evaluation.overlap import dice_score

    files = {"mask": mask, "truth": truth}
    found, expected = (load_mask(as_path(file, option), label_scheme) for option, file in files.items())
    if not grid_of(found).is_that_of(grid_of(expected)):
        raise BadInput(f"{mask} is not on the grid of {truth}, expected two masks of one study.")
    lines = []
    for region, *masks in zip(REGIONS, *(regions_of(labels.as_tensor()) for labels in (found, expected)), strict=True):
        if any(mask.isnan().any() for mask in masks):
            continue
        one, other = (mask.numpy() > 0 for mask in masks)
        volumes = [mask.sum() * voxel_mm3(expected.affine) / 1000 for mask in (one, other)]
        score = dice_score(one, other, expected.affine.numpy())
        lines.append(f"{TITLES[region]}: Dice {score:.3f}; {volumes[0]:.1f} ml found, {volumes[1]:.1f} ml true")
    return "\n".join(lines)


def report(results_dir: str, study: ImageSpec, channel_order: tuple[str, ...] = MSD_CHANNELS) -> str:
    """Write the HTML report of a segmented study; it opens offline in any browser.

    Example: python -m custom report demo/results/demo_000 demo/demo_000

    Args:
        results_dir: the study's results folder, with <id>_run.json and the maps; <id>_report.html is written there.
        study: the segmented study: a folder, a 4-D file, or {modality: file}.
        channel_order: modality of each channel of a 4-D file.

    Returns:
        The report's file.
    """
    from custom.inference.report import write_report

    return str(write_report(as_path(results_dir, "results_dir"), study, channel_order))


def compare(
    before: str,
    after: str,
    output_dir: str,
    before_study: ImageSpec | None = None,
    after_study: ImageSpec | None = None,
    channel_order: tuple[str, ...] = MSD_CHANNELS,
    as_json: bool = False,
) -> str:
    """Compare two time points of one patient, which have been segmented: the change of each region, and new lesions.

    Registers both rigidly. Writes comparison.html, which opens offline in any browser, and comparison.json.

    Example: python -m custom compare results/visit_1 results/visit_2 comparison

    Args:
        before: the results folder of the first time point, with <id>_run.json and the maps.
        after: that of the second.
        output_dir: folder for both files.
        before_study: the first study; with both studies, the pictures show T1ce in place of the synthetic one.
        after_study: the second study.
        channel_order: modality of each channel of a 4-D file.
        as_json: return what comparison.json has, in place of a table.

    Returns:
        A table: a line for each region.
    """
    import json

    from custom.inference.comparison import as_text
    from custom.inference.comparison_page import write_comparison

    places = (as_path(before, "before"), as_path(after, "after"), as_path(output_dir, "output_dir"))
    studies = None if before_study is None or after_study is None else (before_study, after_study)
    found, page = write_comparison(*places, studies, channel_order)
    if as_flag(as_json, "as_json"):
        return json.dumps(found, indent=2)
    return f"{as_text(found)}\nOpen in a browser: {page.absolute()}"


def cross_validate(
    bundle_root: str, dataset_dir: str, output_dir: str, folds: int = 5, datalist: str | None = None, **options: Any
) -> None:
    """Train and evaluate a bundle once for each fold, and pool the metrics of all studies in one table.

    Example: python -m custom cross_validate bundles/recoseg_seg BraTS2020_TrainingData cross_validation --max_epochs 6

    Each fold's weights and metrics are written to output_dir/fold_<k>; output_dir/metrics.json and metrics.csv contain
    every study. Completed folds are skipped. For the segmenter, cross-validate the synthesizer first, so that it was
    not trained on the fold either: --synth_checkpoint "cross_validation_synth/fold_{fold}/model_final.pt"

    Args:
        bundle_root: the bundle.
        dataset_dir: the dataset, with masks.
        output_dir: folder for all output.
        folds: number of folds, if the datalist defines none.
        datalist: a MONAI datalist (JSON), with or without folds.
        options: options of train.json, also used for evaluate.json if they exist there; {fold} is replaced by the fold.
    """
    from custom.evaluation import cross_validation

    paths = (as_path(bundle_root, "bundle_root"), str(dataset_dir), as_path(output_dir, "output_dir"))
    mean = cross_validation.cross_validate(*paths, folds, datalist, options)
    print(f"Means of all studies, in {paths[2] / 'metrics.json'}:")
    for name, value in mean.items():
        print(f"  {name}: {value}")


def pack(output_dir: str, bundles_dir: str = str(BUNDLES_DIR), portable: bool = False) -> None:
    """Pack both bundles as self-contained zips, for another hospital or a model zoo.

    Example: python -m custom pack --output_dir packed

    Args:
        output_dir: folder for recoseg_synth_v<version>.zip and recoseg_seg_v<version>.zip.
        bundles_dir: folder with both bundles side by side.
        portable: also write recoseg_portable_v<version>.zip, the whole pipeline as one program without Python.
    """
    from custom.common.atomic_files import sha256
    from custom.sharing.pack import pack_bundles

    folder, bundles = as_path(output_dir, "output_dir"), as_path(bundles_dir, "bundles_dir")
    for path, contents in pack_bundles(folder, bundles).items():
        print(f"{path}: {contents.files} files, SHA-256 {sha256(path)}, custom/ {contents.custom_sha256}")
    if as_flag(portable, "portable"):
        from custom.export.portable_bundle import pack_portable

        path = pack_portable(folder, bundles)
        print(f"{path}: SHA-256 {sha256(path)}")


def zoo(output_dir: str, bundles_dir: str = str(BUNDLES_DIR), weights_url: str | None = None) -> str:
    """Write both bundles as a pull request to MONAI's model zoo needs them, and check them as the zoo does.

    Copy output_dir/models into a fork of https://github.com/Project-MONAI/model-zoo and open a pull request. What needs
    the network or minutes is left to the zoo: the schema of metadata.json, and trying the networks.

    Example: python -m custom zoo --output_dir zoo

    Args:
        output_dir: folder for models/recoseg_synth and models/recoseg_seg.
        bundles_dir: folder with both bundles side by side.
        weights_url: folder on the web with files above 25 MB, which large_files.yml then names; only if there are some.

    Returns:
        A line for each bundle.
    """
    from custom.sharing.zoo import write_for_zoo

    return "\n".join(write_for_zoo(as_path(output_dir, "output_dir"), as_path(bundles_dir, "bundles_dir"), weights_url))


def sign(zip_file: str, key: str, certificate: str | None = None) -> str:
    """Sign a packed bundle; the signature is written beside it as <zip_file>.sig.

    Example: python -m custom sign packed/recoseg_seg_v0.6.0.zip --key hospital.key

    Args:
        zip_file: a zip written by `pack`.
        key: file of an EC private key in PEM; asks for its password if it has one.
        certificate: PEM file with the key's certificate, followed by the intermediate certificates up to the root, for
            receivers who verify with certificates instead of your public key.

    Returns:
        The signature's file.
    """
    from custom.sharing.verify import sign_zip

    chain = None if certificate is None else as_path(certificate, "certificate")
    return str(sign_zip(as_path(zip_file, "zip_file"), as_path(key, "key"), chain))


def verify(
    zip_file: str, public_key: str | None = None, certificate: str | None = None, output_dir: str | None = None
) -> str:
    """Verify a packed bundle and unpack it: its signer, its integrity, and its configs and weights.

    Reads the zip and the signature beside it, <zip_file>.sig; nothing of the bundle is imported or evaluated.
    Exit status: 0 verified, 2 refused (one sentence with the file and the reason), 1 any other failure (not verified).

    Example: python -m custom verify recoseg_seg_v0.6.0.zip --public_key hospital.pub --output_dir received

    Args:
        zip_file: the packed bundle.
        public_key: PEM file of the signer's EC public key, received through another channel than the bundle.
        certificate: instead of the public key, PEM file of trusted certificates: authorities and, to accept only some
            of the signers whom these authorities certified for code signing, the certificates of those.
        output_dir: unpack exactly what was verified to a new folder in there, named after the bundle; without it
            nothing is unpacked.

    Returns:
        One line: the file, its signer, the number of files, and the hash of custom/.

    Raises:
        BadInput: the bundle is refused, or not exactly one of public_key and certificate is given.
    """
    if (public_key is None) == (certificate is None):
        raise BadInput("verify has both or neither of --public_key and --certificate, expected one of them.")
    trusted = {"public_key": public_key, "certificate": certificate}
    files = {name: as_path(file, name) for name, file in trusted.items() if file is not None}
    archive = as_path(zip_file, "zip_file")
    folder = None if output_dir is None else as_path(output_dir, "output_dir")
    from custom.sharing.verify import verify_zip

    contents, signer = verify_zip(archive, **files, output_dir=folder)
    unpacked = "" if folder is None else f", unpacked to {folder}"
    return (
        f"Verified: {zip_file}, signed by {signer}, {contents.files} files{unpacked}, custom/ {contents.custom_sha256}"
    )


def _keep_text(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Make fire pass arguments annotated as text unchanged; it would convert a folder 20230101 to a number."""
    kinds = {name: str(parameter.annotation) for name, parameter in inspect.signature(verb).parameters.items()}
    parsers = {name: _study if kind.startswith("ImageSpec") else _text for name, kind in kinds.items() if kind in TEXT}
    fire.decorators.SetParseFns(**parsers)(verb)
    return verb


def _text(argument: str) -> str | bool:
    """Return an argument unchanged, except for the True that fire inserts for an option without a value."""
    return True if argument == "True" else argument


def _study(argument: str) -> Any:
    """Return an argument as a dictionary if it is {modality: file}, otherwise unchanged."""
    return fire.parser.DefaultParseValue(argument) if argument.startswith("{") else _text(argument)


def main() -> None:
    """Run a command; exit status 0 on success, 1 if some studies failed, 2 for wrong usage or bad input."""
    try:
        verbs = (demo_study, check, prepare, dice, report, compare, cross_validate, pack, zoo, sign, verify)
        fire.Fire({verb.__name__: _keep_text(verb) for verb in verbs}, name="python -m custom")
    except BadInput as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.status)


if __name__ == "__main__":
    main()
