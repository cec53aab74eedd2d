"""The project's own verbs: ``python -m custom <verb>``. Everything else is a ``python -m monai.bundle`` command."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fire

from custom.common.cli_flags import as_flag, as_path
from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.data.label_scheme import AUTO

if TYPE_CHECKING:
    from custom.data.find import ImageSpec

# Each verb imports what it needs, so that none waits for PyTorch and MONAI, which take seconds, before it has to.

TEXT = ("str", "str | None", "ImageSpec")  # annotations of what has to stay text
BUNDLES_DIR = Path(__file__).resolve().parents[1] / "bundles"


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
    from custom.data.phantom import make_study

    return str(make_study(as_path(output_dir, "output_dir"), study_id, seed))


def check(
    dataset_dir: ImageSpec,
    channel_order: tuple[str, ...] = MSD_CHANNELS,
    masks: str = "optional",
    dicom_ids: str = "hash",
    label_scheme: str = AUTO,
) -> None:
    """Read every study of a dataset, or one study, and say what is found or what is wrong with it.

    Example: python -m custom check BraTS2020_TrainingData --masks required

    Args:
        dataset_dir: a dataset's folder, one study's folder, or one 4-D file; of DICOM it says which series were taken.
        channel_order: modality of each channel of a 4-D file.
        masks: "required" of every study, "optional", or "none" to leave them aside.
        dicom_ids: "hash", or "folder" to call a DICOM study after its folder.
        label_scheme: what the values of masks mean: brats2013, brats2021, brats2023, brats2024, msd or whole_tumour.
    """
    import nibabel as nib
    import numpy as np

    from custom.data.datasets import find_studies

    studies = find_studies(dataset_dir, "all", channel_order=channel_order, masks=masks, dicom_ids=dicom_ids)
    # only now: what is wrong with names and headers is said without waiting for PyTorch
    from custom.data.load import LoadStudyd
    from custom.dicom.registration import MOVES

    load: Any = LoadStudyd(channel_order=channel_order, label_scheme=label_scheme)
    for item in studies:
        study, loaded = item["image"], load(item)
        grid = study.grid
        spacing = " x ".join(f"{size:g}" for size in np.round(grid.spacing, 3))
        orientation = "".join(nib.aff2axcodes(grid.affine))
        shape = " x ".join(map(str, grid.shape))
        mask = "with a mask" if "label" in item else "without a mask"
        print(f"{study.id}: {', '.join(MODALITIES)}; {shape} voxels of {spacing} mm, {orientation}; {mask}")
        if study.dicom:
            print(*(f"  {line}" for line in study.dicom.lines(loaded["image"].meta[MOVES])), sep="\n")
        for modality, looks in zip(study.images, loaded["look_like"].split(), strict=True):
            why = "" if study.dicom else " by the order of channels" if study.channels else " by its name"
            content = "its intensities do not contradict" if looks == modality else f"BUT IT LOOKS LIKE {looks}"
            print(f"  {modality} is {study.name_of(modality)}{why}; {content}")
    print(f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}, all readable.")


def dice(mask: str, truth: str, label_scheme: str = AUTO) -> str:
    """Compare a mask with a true one of the same study: any label counts as tumour.

    Example: python -m custom dice demo/results/demo_000/demo_000_seg.nii.gz demo/demo_000/demo_000_seg.nii.gz

    Args:
        mask: file of the mask.
        truth: file of the true mask.
        label_scheme: what the values of both mean, see `check`; only in brats2024 are some of them no tumour.

    Returns:
        Dice and the two volumes.
    """
    from monai.metrics import compute_dice

    from custom.common.grid import grid_of, volume_ml
    from custom.data.load import load_mask

    files = {"mask": mask, "truth": truth}
    found, expected = (load_mask(as_path(file, option), label_scheme) for option, file in files.items())
    if not grid_of(found).is_that_of(grid_of(expected)):
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
    from custom.inference.report import write_report

    return str(write_report(as_path(results_dir, "results_dir"), study, channel_order))


def pack(output_dir: str, bundles_dir: str = str(BUNDLES_DIR), portable: bool = False) -> None:
    """Write both bundles as zips that are complete in themselves, for another hospital or a model zoo.

    Example: python -m custom pack --output_dir packed

    Args:
        output_dir: where recoseg_synth_v<version>.zip and recoseg_seg_v<version>.zip go.
        bundles_dir: folder with both bundles side by side.
        portable: write recoseg_portable_v<version>.zip too, the whole chain as one program without Python.
    """
    from custom.common.atomic_files import sha256
    from custom.sharing.pack import pack_bundles

    folder, bundles = as_path(output_dir, "output_dir"), as_path(bundles_dir, "bundles_dir")
    for path, manifest in pack_bundles(folder, bundles).items():
        print(f"{path}: {len(manifest['files'])} files, SHA-256 {sha256(path)}, custom/ {manifest['custom_sha256']}")
    if as_flag(portable, "portable"):
        from custom.export.portable_bundle import pack_portable

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
    from custom.sharing.verify import sign_zip

    chain = None if certificate is None else as_path(certificate, "certificate")
    return str(sign_zip(as_path(zip_file, "zip_file"), as_path(key, "key"), chain))


def verify(zip_file: str, public_key: str | None = None, certificate: str | None = None) -> str:
    """Verify a packed bundle before it is unpacked: who signed it, that it is whole, and what it could do.

    Reads the zip and the signature beside it, <zip_file>.sig; nothing of the bundle is imported or evaluated.
    Exit status 0 verified, 2 refused (one sentence says which file and why), 1 anything else, which is not verified.

    Example: python -m custom verify recoseg_seg_v0.5.0.zip --public_key hospital.pub

    Args:
        zip_file: the packed bundle.
        public_key: file of the signer's EC public key in PEM, which you have from the signer and not with the bundle.
        certificate: in place of it, file of the certificates in PEM that you trust: authorities, and the signers to
            be accepted if not everybody who has a certificate for signing code from these authorities.

    Returns:
        What was verified.
    """
    if (public_key is None) == (certificate is None):
        raise BadInput("verify has both or neither of --public_key and --certificate, expected one: whom you trust.")
    trusted = {"public_key": public_key, "certificate": certificate}
    files = {name: as_path(file, name) for name, file in trusted.items() if file is not None}
    archive = as_path(zip_file, "zip_file")
    from custom.sharing.verify import verify_zip

    manifest, signer = verify_zip(archive, **files)
    return (
        f"Verified: {zip_file}, signed by {signer}, {len(manifest['files'])} files, custom/ {manifest['custom_sha256']}"
    )


def _keep_text(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Make fire pass on as text what is annotated as text: it would make a number of the folder 20230101."""
    kinds = {name: str(parameter.annotation) for name, parameter in inspect.signature(verb).parameters.items()}
    parsers = {name: _study if kind == "ImageSpec" else _text for name, kind in kinds.items() if kind in TEXT}
    fire.decorators.SetParseFns(**parsers)(verb)
    return verb


def _text(argument: str) -> str | bool:
    """Return an argument as it was written, but for the True that fire puts in for an option without a value."""
    return True if argument == "True" else argument


def _study(argument: str) -> Any:
    """Return {modality: file} where an argument is that, and any other as it was written."""
    return fire.parser.DefaultParseValue(argument) if argument.startswith("{") else _text(argument)


def main() -> None:
    """Run a verb; exit status 0 done, 2 wrong use or bad input, 1 anything else."""
    try:
        verbs = (demo_study, check, dice, report, pack, sign, verify)
        fire.Fire({verb.__name__: _keep_text(verb) for verb in verbs}, name="python -m custom")
    except BadInput as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
