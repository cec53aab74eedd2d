"""Maps on the study's own grid, and the report beside them."""

import json

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.transforms import LoadImage

from custom.common.grid import volume_ml
from custom.data.study import Study
from custom.inference.results_writer import ResultsWriter, save_map

AFFINE = np.array([[-1.2, 0.1, 0, 90], [0.1, 1.3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])


@pytest.fixture
def source(tmp_path):
    """A file whose affine stands in its sform, with codes that a viewer reads."""
    image = nib.Nifti1Image(np.ones((12, 10, 6), np.int16), AFFINE)
    image.set_sform(AFFINE, code=4)
    image.set_qform(None, code=0)
    nib.save(image, tmp_path / "source.nii.gz")
    return tmp_path / "source.nii.gz"


def items(source):
    """The only study of a dataset."""
    return [{"id": "study", "image": Study("study", {"t1ce": source}, None, None)}]


def evaluate(writer, **data):
    """Let the writer see one study that an evaluator completes."""

    def step(engine, batch):
        engine.state.batch, engine.state.output = [{"id": "study", "modalities": "flair t1 t2 t1ce"}], [data]
        return engine.state.output

    engine = Engine(step)
    writer.attach(engine)
    engine.run([0])


def test_a_map_has_the_affine_and_the_codes_of_the_study_bit_for_bit(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    save_map(image, tmp_path / "map.nii.gz", np.float32)
    saved, original = nib.load(tmp_path / "map.nii.gz"), nib.load(source)
    assert np.array_equal(saved.affine, original.affine)
    for code in ("sform_code", "qform_code", "xyzt_units"):
        assert saved.header[code] == original.header[code]
    assert saved.shape == original.shape
    assert saved.get_data_dtype() == np.float32


def test_a_map_of_a_channel_of_a_4d_file_is_3d(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((12, 10, 6, 4), np.float32), AFFINE), tmp_path / "study.nii.gz")
    image = LoadImage(ensure_channel_first=True)(tmp_path / "study.nii.gz")[:1]
    save_map(image, tmp_path / "map.nii.gz", np.uint8)
    saved = nib.load(tmp_path / "map.nii.gz")
    assert saved.shape == (12, 10, 6)
    assert np.array_equal(saved.affine, nib.load(tmp_path / "study.nii.gz").affine)


def test_a_map_of_another_format_has_its_affine(tmp_path):
    itk.imwrite(itk.image_from_array(np.ones((6, 10, 12), np.float32)), tmp_path / "study.mha")
    image = LoadImage(ensure_channel_first=True)(tmp_path / "study.mha")
    save_map(image, tmp_path / "map.nii.gz", np.float32)
    assert np.allclose(nib.load(tmp_path / "map.nii.gz").affine, image.affine.numpy(), atol=1e-5)


def test_voxel_values_are_written_unscaled(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source) * 0.125
    save_map(image, tmp_path / "map.nii.gz", np.float32)
    assert np.all(nib.load(tmp_path / "map.nii.gz").get_fdata() == 0.125)


def test_volume_counts_voxels_times_their_size(source):
    image = LoadImage(ensure_channel_first=True)(source)
    expected = 12 * 10 * 6 * abs(np.linalg.det(AFFINE[:3, :3])) / 1000
    assert volume_ml(image > 0) == pytest.approx(expected, rel=1e-5)


def test_results_and_report_lie_under_the_study_name(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    maps = {"seg": "pred", "prob": "prob", "residual": "residual"}
    writer = ResultsWriter(tmp_path / "out", maps, items(source), {}, {"steps": 2})
    evaluate(writer, pred=image, prob=image)
    written = sorted(file.name for file in (tmp_path / "out" / "study").iterdir())
    # residual is absent: the study has none
    assert written == ["study_prob.nii.gz", "study_run.json", "study_seg.nii.gz"]
    report = json.loads((tmp_path / "out" / "study" / "study_run.json").read_text())
    assert report["outputs"] == {"seg": "study_seg.nii.gz", "prob": "study_prob.nii.gz"}
    assert report["tumour_volume_ml"] == pytest.approx(volume_ml(image), abs=1e-3)
    assert report["settings"] == {"steps": 2}
    assert set(report["seconds"]) == {"read_and_prepare", "network_and_back", "write"}


def test_a_map_of_several_classes_is_a_file_for_each(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    masks = torch.cat([image, image * 0])
    writer = ResultsWriter(
        tmp_path, {"seg": "pred", "residual": "residual"}, items(source), {}, {}, classes=("wt", "et")
    )
    evaluate(writer, pred=masks, residual=image)
    names = {name: f"study_{name}.nii.gz" for name in ("seg_wt", "seg_et", "residual")}
    assert {file.name for file in (tmp_path / "study").iterdir()} == {*names.values(), "study_run.json"}
    report = json.loads((tmp_path / "study" / "study_run.json").read_text())
    assert report["outputs"] == names
    assert report["tumour_volume_ml_wt"] == pytest.approx(volume_ml(image), abs=1e-3)
    assert report["tumour_volume_ml_et"] == 0
    saved = nib.load(tmp_path / "study" / names["seg_wt"])
    assert saved.get_data_dtype() == np.uint8
    assert np.all(saved.get_fdata() == 1)


@pytest.mark.parametrize("enabled", [False, "false"])
def test_nothing_is_written_unless_asked_for(source, tmp_path, enabled):
    image = LoadImage(ensure_channel_first=True)(source)
    writer = ResultsWriter(tmp_path / "out", {"seg": "pred"}, items(source), {}, {}, enabled=enabled)
    evaluate(writer, pred=image)
    assert not (tmp_path / "out").exists()


def test_a_write_that_fails_leaves_nothing_and_keeps_what_was_there(source, tmp_path, monkeypatch):
    image = LoadImage(ensure_channel_first=True)(source)
    folder = tmp_path / "out" / "study"
    folder.mkdir(parents=True)
    (folder / "study_seg.nii.gz").write_bytes(b"of an earlier run")
    writer = ResultsWriter(tmp_path / "out", {"seg": "pred", "prob": "prob"}, items(source), {}, {})
    broken = image.clone()
    broken.meta["filename_or_obj"] = str(tmp_path / "gone.nii.gz")
    with pytest.raises(FileNotFoundError):
        evaluate(writer, pred=image, prob=broken)
    assert [file.name for file in folder.iterdir()] == ["study_seg.nii.gz"]
    assert (folder / "study_seg.nii.gz").read_bytes() == b"of an earlier run"


def test_a_mask_is_rounded_not_truncated(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source) * 0.99
    save_map(image, tmp_path / "map.nii.gz", np.uint8)
    assert nib.load(tmp_path / "map.nii.gz").get_fdata().min() == 1
    assert torch.as_tensor(image).max() < 1
