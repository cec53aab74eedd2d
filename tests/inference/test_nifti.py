"""A map as a file: on the study's grid to the bit, and with nothing else of its source."""

from __future__ import annotations

import itk
import nibabel as nib
import numpy as np
import torch
from monai.transforms import LoadImage

from custom.inference.nifti import in_thousandths, save_map
from tests.inference.volumes import AFFINE


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


def test_a_mask_is_rounded_not_truncated(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source) * 0.99
    save_map(image, tmp_path / "map.nii.gz", np.uint8)
    assert nib.load(tmp_path / "map.nii.gz").get_fdata().min() == 1
    assert torch.as_tensor(image).max() < 1


def saved_from(image, folder, dtype=np.uint8):
    """Write ``image`` as a source, save a map of it, and return both headers."""
    nib.save(image, folder / "source.nii.gz")
    save_map(LoadImage(ensure_channel_first=True)(folder / "source.nii.gz"), folder / "map.nii.gz", dtype)
    return nib.load(folder / "source.nii.gz").header, nib.load(folder / "map.nii.gz").header


def test_no_text_or_extension_of_the_source_is_in_a_map(tmp_path):
    image = nib.Nifti1Image(np.ones((12, 10, 6), np.int16), AFFINE)
    for field in ("db_name", "aux_file", "intent_name", "descrip", "data_type"):
        image.header[field] = b"MUELLER"
    image.header["intent_code"] = 1002
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"MUELLER^JUERGEN 19500207"))
    source, written = saved_from(image, tmp_path)
    assert source.extensions and not written.extensions
    assert b"MUELLER" not in nib.load(tmp_path / "map.nii.gz").to_bytes()
    texts = {field: bytes(written[field].tobytes()).strip(b"\0") for field in ("db_name", "aux_file", "intent_name")}
    assert set(texts.values()) == {b""}
    assert written["descrip"].item() == b"ReCoSeg, research use"
    assert written["intent_code"] == 0


def test_a_map_has_the_zooms_and_the_unit_of_length_of_the_source_but_no_time(tmp_path):
    image = nib.Nifti1Image(np.ones((12, 10, 6, 1), np.int16), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(AFFINE, code=2)
    source, written = saved_from(image, tmp_path)
    assert written["pixdim"][:4].tolist() == source["pixdim"][:4].tolist()
    assert written.get_xyzt_units() == ("mm", "unknown")
    assert [written[field].item() for field in ("qform_code", "quatern_b", "qoffset_x")] == [
        source[field].item() for field in ("qform_code", "quatern_b", "qoffset_x")
    ]


def test_a_map_of_a_big_endian_file_or_of_nifti_2_is_on_its_grid(tmp_path):
    for number, image in enumerate(
        (
            nib.Nifti1Image(np.ones((12, 10, 6), ">i2"), AFFINE, nib.Nifti1Header(endianness=">")),
            nib.Nifti2Image(np.ones((12, 10, 6), np.int16), AFFINE),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        saved_from(image, folder)
        assert np.allclose(nib.load(folder / "map.nii.gz").affine, AFFINE, atol=1e-5)


def test_rounding_to_thousandths_changes_nothing_about_which_thresholds_a_probability_reaches():
    levels = np.arange(1001, dtype=np.float32) / np.float32(1000)
    assert np.array_equal(in_thousandths(levels), levels)
    below = np.nextafter(levels[1:], np.float32(0))
    assert np.array_equal(in_thousandths(below), levels[:-1])


def test_a_map_in_thousandths_is_float32_and_at_most_that_much_below(source, tmp_path):
    image = LoadImage(ensure_channel_first=True)(source)
    image = image * 0 + torch.linspace(-3, 3, image.numel()).view(image.shape)
    save_map(image, tmp_path / "map.nii.gz", np.float32, thousandths=True)
    saved = nib.load(tmp_path / "map.nii.gz")
    assert saved.get_data_dtype() == np.float32
    lost = image[0].numpy().astype(float) - saved.get_fdata()
    assert lost.min() >= -1e-6 and 5e-4 < lost.max() < 1e-3 + 1e-6
