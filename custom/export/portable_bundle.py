"""A bundle without Python, for platforms that accept none: a TorchScript program and MONAI's own components."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.data import save_net_with_metadata

from custom.common.atomic_files import written_beside
from custom.common.errors import BadInput
from custom.common.precision import AUTO, check_amp
from custom.common.regions import REGIONS, for_each_region
from custom.export.torchscript import chain_program
from custom.preprocessing.intensities import ScaleIntensityInBraind
from custom.preprocessing.slices import StudyToSlicesd
from custom.preprocessing.uptake import Uptaked
from custom.segmentation.synthesize_t1ce import SynthesizeT1ced
from custom.sharing.bundle_zip import write_zip
from custom.sharing.pack import REPOSITORY

NAME = "recoseg_portable"
PACKAGES = ("nibabel", "pytorch-ignite", "fire", "scikit-image")  # required beside PyTorch, MONAI and NumPy
SHARED = ("LICENSE", "configs/logging.conf", "docs/data_license.txt")  # as in the segmenter's bundle


def pack_portable(output_dir: str | Path, bundles_dir: str | Path) -> Path:
    """Write ``recoseg_portable_v<version>.zip`` to ``output_dir`` and return its path.

    Its configs and model card are in this project's bundles/recoseg_portable, with the steps behind the network for
    three regions, in MONAI's own components. ``models/model.ts`` is compiled from the
    networks, weights and settings of the segmenter's ``inference.json``, for a CPU. It contains metadata.json and
    inference.json, for platforms that load only this file. With ``amp`` "auto" it computes in float32, the
    precision that every CPU is fast in.

    Args:
        output_dir: folder of the zip; created if needed.
        bundles_dir: folder with both bundles side by side.

    Raises:
        BadInput: a bundle or its weights are missing or do not fit, the segmenter has other regions than three, or
            `chain_program` refuses its settings.
    """
    bundle = Path(bundles_dir) / "recoseg_seg"
    if not (bundle / "configs" / "inference.json").is_file():
        raise BadInput(f"{bundle}: found no bundle there, expected both bundles side by side.")
    source = REPOSITORY / "bundles" / NAME
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    parser.update({"bundle_root": str(bundle), "device": "cpu"})
    if check_amp(parser["amp"]) == AUTO:
        # the program keeps one precision for good, and the CPU that it will run on is not known
        parser.update({"amp": False})
    if tuple(parser["regions"]) != REGIONS:
        raise BadInput(f"{bundle} has the regions {', '.join(parser['regions'])}, expected {', '.join(REGIONS)}.")
    of_regions = {name: list(for_each_region(parser[name], REGIONS, name)) for name in ("threshold", "min_volume_mm3")}
    settings = {"channel_order": parser["channel_order"], **of_regions}
    inference = _read(source / "configs" / "inference.json") | settings
    metadata = _read(bundle / "configs" / "metadata.json")
    needed = {name: metadata["required_packages_version"][name] for name in PACKAGES}
    metadata |= _read(source / "configs" / "metadata.json") | {"required_packages_version": needed}
    program = program_of(parser)

    path = Path(output_dir) / f"{NAME}_v{metadata['version']}.zip"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / NAME
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("models", "eval"))
        for file in SHARED:
            shutil.copyfile(bundle / file, folder / file)
        for name, content in (("inference", inference), ("metadata", metadata)):
            (folder / "configs" / f"{name}.json").write_text(json.dumps(content, indent=4) + "\n")
        (folder / "models").mkdir()
        save_net_with_metadata(
            program,
            str(folder / "models" / "model.ts"),
            include_config_vals=False,  # they contain a time, with which no two files would be equal
            meta_values=metadata,
            more_extra_files={"inference.json": json.dumps(inference).encode()},
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as beside:
            write_zip(folder, beside)
    return path


def program_of(parser: ConfigParser) -> Any:
    """Return the pipeline of a segmenter's inference config as a program."""
    preprocessing = parser.get_parsed_content("preprocessing").transforms
    slices = next(step for step in preprocessing if isinstance(step, StudyToSlicesd))
    synthesis = next(step for step in preprocessing if isinstance(step, SynthesizeT1ced))
    return chain_program(
        next(step for step in slices.transforms if isinstance(step, ScaleIntensityInBraind)),
        synthesis.inferer,
        synthesis.network,
        parser.get_parsed_content("inferer"),
        parser.get_parsed_content("network"),
        margin=next(step for step in preprocessing if isinstance(step, Uptaked)).margin,
        fills_flair=synthesis.flair_inferer is not None,
    )


def _read(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file."""
    return json.loads(file.read_text())
