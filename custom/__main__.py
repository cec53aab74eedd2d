"""The project's own verbs: ``python -m custom <verb>``. Everything else is a ``python -m monai.bundle`` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
import torch
from monai.metrics import compute_dice

from custom.common.atomic_files import sha256
from custom.common.cli_flags import as_flag
from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.data.datasets import find_studies
from custom.data.find import ImageSpec
from custom.data.load import LoadStudyd, load_mask
from custom.data.phantom import make_study
from custom.data.study import MSD_CHANNELS
from custom.dicom.registration import MOVES
from custom.dicom.study import DicomStudy
from custom.export.portable_bundle import pack_portable
from custom.inference.report import write_report
from custom.inference.results_writer import volume_ml
from custom.sharing.pack import REPOSITORY, pack_bundles
from custom.sharing.verify import sign_zip, verify_zip


def demo_study(output_dir: str, study_id: str = "demo_000", seed: int = 0) -> str:
    """Write a generated study in BraTS layout: four modalities and a mask, no patient's data.

    Example: python -m custom demo_study demo

    Args:
        output_dir: folder that the study's folder is written to.
        study_id: name of the study.
        seed: another seed gives another anatomy and another tumour.

    Returns:
        The study's folder.
    """
    return str(make_study(output_dir, study_id, seed))


def check(dataset_dir: str, channel_order: tuple[str, ...] = MSD_CHANNELS, masks: str = "optional") -> None:
    """Read every study of a dataset, or one study, and say what is found or what is wrong with it.

    Example: python -m custom check BraTS2020_TrainingData --masks required

    Args:
        dataset_dir: a dataset's folder, one study's folder, or one 4-D file; of DICOM it says which series were taken.
        channel_order: modality of each channel of a 4-D file.
        masks: "required" of every study, "optional", or "none" to leave them aside.
    """
    studies = find_studies(dataset_dir, "all", channel_order=channel_order, masks=masks)
    load: Any = LoadStudyd(channel_order=channel_order)
    for study in studies:
        image = load(study)["image"]
        spacing = " x ".join(f"{size:g}" for size in np.round(nib.affines.voxel_sizes(image.affine.numpy()), 3))
        orientation = "".join(nib.aff2axcodes(image.affine.numpy()))
        grid = " x ".join(map(str, image.shape[1:]))
        mask = "with a mask" if "label" in study else "without a mask"
        print(f"{study['id']}: {', '.join(MODALITIES)}; {grid} voxels of {spacing} mm, {orientation}; {mask}")
        if isinstance(study["image"], DicomStudy):
            print(*(f"  {line}" for line in study["image"].lines(image.meta[MOVES])), sep="\n")
    print(f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}, all readable.")


def dice(mask: str, truth: str) -> str:
    """Compare a mask with a true one of the same study: any label counts as tumour.

    Example: python -m custom dice demo/results/demo_000/demo_000_seg.nii.gz demo/demo_000/demo_000_seg.nii.gz

    Args:
        mask: file of the mask.
        truth: file of the true mask.

    Returns:
        Dice and the two volumes.
    """
    found, expected = (load_mask(Path(file)) for file in (mask, truth))
    if found.shape != expected.shape or not torch.allclose(found.affine, expected.affine, atol=1e-3):
        raise BadInput(f"{mask} is not on the grid of {truth}, expected two masks of one study.")
    score = compute_dice(found[None] > 0, expected[None] > 0).item()
    return f"Dice {score:.3f}; {volume_ml(found > 0):.1f} ml found, {volume_ml(expected > 0):.1f} ml true"


def report(results_dir: str, study: ImageSpec, channel_order: tuple[str, ...] = MSD_CHANNELS) -> str:
    """Write the report of a study that has been segmented: a page that opens offline in any browser.

    Example: python -m custom report demo/results/demo_000 demo/demo_000

    Args:
        results_dir: the study's folder of results, with <id>_run.json and the maps; <id>_report.html goes there.
        study: the study that was segmented: a folder, a 4-D file, or {modality: file}.
        channel_order: modality of each channel of a 4-D file.

    Returns:
        The page's file.
    """
    return str(write_report(results_dir, study, channel_order))


def pack(output_dir: str, bundles_dir: str = str(REPOSITORY / "bundles"), portable: bool = False) -> None:
    """Write both bundles as zips that are complete in themselves, for another hospital or a model zoo.

    Example: python -m custom pack --output_dir packed

    Args:
        output_dir: where recoseg_synth_v<version>.zip and recoseg_seg_v<version>.zip go.
        bundles_dir: folder with both bundles side by side.
        portable: write recoseg_portable_v<version>.zip too, the whole chain as one program without Python.
    """
    folder, bundles = _path(output_dir, "output_dir"), _path(bundles_dir, "bundles_dir")
    for path, contents in pack_bundles(folder, bundles).items():
        print(f"{path}: {contents.files} files, SHA-256 {sha256(path)}, custom/ {contents.custom_sha256}")
    if as_flag(portable, "portable"):
        path = pack_portable(folder, bundles)
        print(f"{path}: SHA-256 {sha256(path)}")


def sign(zip_file: str, key: str, certificate: str | None = None) -> str:
    """Sign a packed bundle; the signature is written beside it, to <zip_file>.sig.

    Example: python -m custom sign packed/recoseg_seg_v0.5.0.zip --key hospital.key

    Args:
        zip_file: what `pack` wrote.
        key: file of an EC private key in PEM; if it has a password, you are asked for it.
        certificate: file of the key's certificate in PEM, and behind it those of the authorities between it and the
            root, for those who verify with certificates and not with your public key.

    Returns:
        The signature's file.
    """
    chain = None if certificate is None else _path(certificate, "certificate")
    return str(sign_zip(_path(zip_file, "zip_file"), _path(key, "key"), chain))


def verify(
    zip_file: str, public_key: str | None = None, certificate: str | None = None, output_dir: str | None = None
) -> str:
    """Verify a packed bundle and unpack it: who signed it, that it is whole, and what it could do.

    Reads the zip and the signature beside it, <zip_file>.sig; nothing of the bundle is imported or evaluated.
    Exit status 0 verified, 2 refused (one sentence says which file and why), 1 anything else, which is not verified.

    Example: python -m custom verify recoseg_seg_v0.5.0.zip --public_key hospital.pub --output_dir received

    Args:
        zip_file: the packed bundle.
        public_key: file of the signer's EC public key in PEM, which you have from the signer and not with the bundle.
        certificate: in place of it, file of the certificates in PEM that you trust: authorities, and the signers to
            be accepted if not everybody who has a certificate for signing code from these authorities.
        output_dir: unpack exactly what was verified to a new folder in there, named after the bundle; without it
            nothing is unpacked.

    Returns:
        What was verified.
    """
    if (public_key is None) == (certificate is None):
        raise BadInput("verify has both or neither of --public_key and --certificate, expected one: whom you trust.")
    trusted = {"public_key": public_key, "certificate": certificate}
    files = {name: _path(file, name) for name, file in trusted.items() if file is not None}
    folder = None if output_dir is None else _path(output_dir, "output_dir")
    contents, signer = verify_zip(_path(zip_file, "zip_file"), **files, output_dir=folder)
    unpacked = "" if folder is None else f", unpacked to {folder}"
    return (
        f"Verified: {zip_file}, signed by {signer}, {contents.files} files{unpacked}, custom/ {contents.custom_sha256}"
    )


def _path(value: object, option: str) -> Path:
    """Return ``value`` as a path: fire makes True of an option without a value, and a number of what looks like one."""
    if not isinstance(value, str):
        raise BadInput(f"--{option} has the value {value!r}, expected a file or a folder.")
    return Path(value)


def main() -> None:
    """Run a verb; exit status 0 done, 2 wrong use or bad input, 1 anything else."""
    try:
        verbs = (demo_study, check, dice, report, pack, sign, verify)
        fire.Fire({verb.__name__: verb for verb in verbs}, name="python -m custom")
    except BadInput as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
