"""The project's own commands: ``python -m custom <command>``. Everything else is ``python -m monai.bundle``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
from monai.metrics import compute_dice

from custom.common.atomic_files import sha256
from custom.common.cli_flags import as_flag
from custom.common.errors import BadInput
from custom.common.grid import grid_of, volume_ml
from custom.common.modalities import MODALITIES
from custom.data.datasets import find_studies
from custom.data.find import ImageSpec
from custom.data.load import LoadStudyd, load_mask
from custom.data.phantom import make_study
from custom.data.study import MSD_CHANNELS
from custom.dicom.registration import MOVES
from custom.export.portable_bundle import pack_portable
from custom.inference.report import write_report
from custom.sharing.pack import REPOSITORY, pack_bundles
from custom.sharing.verify import sign_zip, verify_zip


def demo_study(output_dir: str, study_id: str = "demo_000", seed: int = 0) -> str:
    """Generate a study in BraTS layout: four modalities and a mask, without patient data.

    Example: python -m custom demo_study demo

    Args:
        output_dir: folder in which the study's folder is created.
        study_id: name of the study.
        seed: seed of the anatomy and the tumour.

    Returns:
        The study's folder.
    """
    return str(make_study(output_dir, study_id, seed))


def check(dataset_dir: str, channel_order: tuple[str, ...] = MSD_CHANNELS, masks: str = "optional") -> None:
    """Read every study of a dataset, or one study, and print what was found or what is wrong.

    Example: python -m custom check BraTS2020_TrainingData --masks required

    Args:
        dataset_dir: a dataset's folder, one study's folder, or one 4-D file; for DICOM, prints the chosen series.
        channel_order: modality of each channel of a 4-D file.
        masks: "required" (every study must have one), "optional", or "none" (masks are ignored).
    """
    studies = find_studies(dataset_dir, "all", channel_order=channel_order, masks=masks)
    load: Any = LoadStudyd(channel_order=channel_order)
    for study in studies:
        image = load(study)["image"]
        grid, dicom = study["image"].grid, study["image"].dicom
        spacing = " x ".join(f"{size:g}" for size in np.round(grid.spacing, 3))
        orientation = "".join(nib.aff2axcodes(grid.affine))
        shape = " x ".join(map(str, grid.shape))
        mask = "with a mask" if "label" in study else "without a mask"
        print(f"{study['id']}: {', '.join(MODALITIES)}; {shape} voxels of {spacing} mm, {orientation}; {mask}")
        if dicom:
            print(*(f"  {line}" for line in dicom.lines(image.meta[MOVES])), sep="\n")
    print(f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}, all readable.")


def dice(mask: str, truth: str) -> str:
    """Compare a mask with the ground truth of the same study; every label above 0 counts as tumour.

    Example: python -m custom dice demo/results/demo_000/demo_000_seg.nii.gz demo/demo_000/demo_000_seg.nii.gz

    Args:
        mask: file of the mask.
        truth: file of the ground-truth mask.

    Returns:
        Dice and both volumes in ml.

    Raises:
        BadInput: the masks are on different grids.
    """
    found, expected = (load_mask(Path(file)) for file in (mask, truth))
    if not grid_of(found).is_that_of(grid_of(expected)):
        raise BadInput(f"{mask} is not on the grid of {truth}, expected two masks of one study.")
    score = compute_dice(found[None] > 0, expected[None] > 0).item()
    return f"Dice {score:.3f}; {volume_ml(found > 0):.1f} ml found, {volume_ml(expected > 0):.1f} ml true"


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
    return str(write_report(results_dir, study, channel_order))


def pack(output_dir: str, bundles_dir: str = str(REPOSITORY / "bundles"), portable: bool = False) -> None:
    """Pack both bundles as self-contained zips, for another hospital or a model zoo.

    Example: python -m custom pack --output_dir packed

    Args:
        output_dir: folder for recoseg_synth_v<version>.zip and recoseg_seg_v<version>.zip.
        bundles_dir: folder with both bundles side by side.
        portable: also write recoseg_portable_v<version>.zip, the whole pipeline as one program without Python.
    """
    folder, bundles = _path(output_dir, "output_dir"), _path(bundles_dir, "bundles_dir")
    for path, manifest in pack_bundles(folder, bundles).items():
        print(f"{path}: {len(manifest['files'])} files, SHA-256 {sha256(path)}, custom/ {manifest['custom_sha256']}")
    if as_flag(portable, "portable"):
        path = pack_portable(folder, bundles)
        print(f"{path}: SHA-256 {sha256(path)}")


def sign(zip_file: str, key: str, certificate: str | None = None) -> str:
    """Sign a packed bundle; the signature is written beside it as <zip_file>.sig.

    Example: python -m custom sign packed/recoseg_seg_v0.5.0.zip --key hospital.key

    Args:
        zip_file: a zip written by `pack`.
        key: file of an EC private key in PEM; asks for its password if it has one.
        certificate: PEM file with the key's certificate, followed by the intermediate certificates up to the root, for
            receivers who verify with certificates instead of your public key.

    Returns:
        The signature's file.
    """
    chain = None if certificate is None else _path(certificate, "certificate")
    return str(sign_zip(_path(zip_file, "zip_file"), _path(key, "key"), chain))


def verify(zip_file: str, public_key: str | None = None, certificate: str | None = None) -> str:
    """Verify a packed bundle before unpacking: its signer, its integrity, and that its configs and weights are safe.

    Reads the zip and the signature beside it, <zip_file>.sig; nothing of the bundle is imported or evaluated.
    Exit status: 0 verified, 2 refused (one sentence with the file and the reason), 1 any other failure (not verified).

    Example: python -m custom verify recoseg_seg_v0.5.0.zip --public_key hospital.pub

    Args:
        zip_file: the packed bundle.
        public_key: PEM file of the signer's EC public key, received through another channel than the bundle.
        certificate: instead of the public key, PEM file of trusted certificates: authorities and, to accept only some
            of the signers whom these authorities certified for code signing, the certificates of those.

    Returns:
        One line: the file, its signer, the number of files, and the hash of custom/.

    Raises:
        BadInput: the bundle is refused, or not exactly one of public_key and certificate is given.
    """
    if (public_key is None) == (certificate is None):
        raise BadInput("verify has both or neither of --public_key and --certificate, expected one of them.")
    trusted = {"public_key": public_key, "certificate": certificate}
    files = {name: _path(file, name) for name, file in trusted.items() if file is not None}
    manifest, signer = verify_zip(_path(zip_file, "zip_file"), **files)
    return (
        f"Verified: {zip_file}, signed by {signer}, {len(manifest['files'])} files, custom/ {manifest['custom_sha256']}"
    )


def _path(value: object, option: str) -> Path:
    """Return ``value`` as a path; fire turns an option without a value into True, and digits into a number."""
    if not isinstance(value, str):
        raise BadInput(f"--{option} has the value {value!r}, expected a file or a folder.")
    return Path(value)


def main() -> None:
    """Run a command; exit status 0 on success, 2 for wrong usage or bad input, 1 for any other failure."""
    try:
        verbs = (demo_study, check, dice, report, pack, sign, verify)
        fire.Fire({verb.__name__: verb for verb in verbs}, name="python -m custom")
    except BadInput as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
