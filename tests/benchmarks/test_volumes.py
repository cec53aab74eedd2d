"""The training on volumes from one file, in small, on the CPU."""

from __future__ import annotations

import json

import nibabel as nib
import pytest
import torch

from benchmarks import volumes
from custom.data.phantom import make_study


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A pack of two complete phantoms and one that has FLAIR and a mask of the whole tumour only, at 4 mm."""
    folder = tmp_path_factory.mktemp("volumes")
    for name in ("a", "b", "c"):
        make_study(folder / "data", name, seed=ord(name), shape=(60, 60, 40), spacing=(4, 4, 4))
    for modality in ("t1", "t2", "t1ce"):
        (folder / "data" / "c" / f"c_{modality}.nii.gz").unlink()
    mask = folder / "data" / "c" / "c_seg.nii.gz"
    image = nib.load(mask)
    nib.save(nib.Nifti1Image((image.get_fdata() > 0).astype("uint8"), image.affine), mask)
    datalist = folder / "list.json"
    datalist.write_text(
        json.dumps({"training": [{"image": name, "fold": fold} for name, fold in zip("abc", (0, 1, 2), strict=True)]})
    )
    volumes.pack(str(folder / "pack.bin"), str(folder / "data"), datalists=str(datalist), spacing=4.0, size=60)
    return folder / "pack.bin"


def test_a_pack_has_the_brains_of_all_studies_and_what_is_unknown_of_them(packed):
    studies = volumes.unpack(str(packed))
    assert [(study["id"], study["section"]) for study in studies] == [
        ("b", "training"),
        ("c", "training"),
        ("a", "validation"),
    ]
    for study, there, known in zip(studies, (4, 1, 4), (3, 1, 3), strict=True):
        assert study["image"].flatten(1).any(dim=1).sum() == there
        assert (~study["label"].flatten(1).isnan().any(dim=1)).tolist() == [True] * known + [False] * (3 - known)
        brain = study["image"].any(dim=0)
        assert 0.35 < float(study["image"][0][brain].float().mean()) < 0.45  # the scale's mean is 0.4
        assert 0.001 < float(study["label"][0][brain].float().mean()) < 0.5
        for axis in (0, 1, 2):  # cut to the brain
            others = tuple(other for other in range(3) if other != axis)
            assert brain.any(dim=others[1]).any(dim=others[0])[[0, -1]].all()


@pytest.mark.slow
def test_both_networks_are_trained_from_a_pack(packed, tmp_path, capsys):
    small = {"patch": (32, 32, 32), "batch": 2, "seconds": 2, "channels": (8, 16, 16)}
    halves = [str(tmp_path / f"synthesizer_{half}.pt") for half in (1, 2)]
    for half, file in zip((1, 2), halves, strict=True):
        volumes.synthesizer(str(packed), file, half=half, **small)
    assert capsys.readouterr().out.count("PSNR") == 2
    model = str(tmp_path / "segmenter.pt")
    volumes.segmenter(str(packed), model, halves, extra="uptake", half=1, filters=(4, 8, 8, 8, 8), **small)
    assert "mean Dice of whole tumour, core, enhancing tumour: [" in capsys.readouterr().out
    weights = torch.load(model, weights_only=True)
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert next(iter(weights.values())).shape[1] == 5
