"""Names of the Brain Imaging Data Structure, and a dataset laid out like that from its root to one study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from custom.data.bids import anat_folder, has_contrast_agent, study_id_in
from custom.data.datasets import find_studies
from custom.data.find import find_study
from tests.studies import write_volumes

BIDS = {"flair": "FLAIR", "t1": "T1w", "t2": "T2w", "t1ce": "ce-gadolinium_T1w"}


def write_session(dataset: Path, subject: str, session: str | None) -> Path:
    """Write a session's images and return the folder with them."""
    folder = dataset / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
    name = f"sub-{subject}" + (f"_ses-{session}" if session else "")
    return write_volumes(folder, {modality: f"{name}_{suffix}" for modality, suffix in BIDS.items()})


@pytest.fixture
def dataset(tmp_path):
    for session in ("01", "02"):
        write_session(tmp_path, "01", session)
    write_session(tmp_path, "02", None)
    write_session(tmp_path / "derivatives" / "somebody", "01", "01")
    return tmp_path


def test_every_session_of_a_dataset_is_a_study_named_after_subject_and_session(dataset):
    items = find_studies(dataset, masks="none")
    assert [item["id"] for item in items] == ["sub-01_ses-01", "sub-01_ses-02", "sub-02"]
    anat = dataset / "sub-01" / "ses-01" / "anat"
    assert items[0]["image"].images == {m: anat / f"sub-01_ses-01_{name}.nii.gz" for m, name in BIDS.items()}
    assert [item["image"].patient for item in items] == ["sub-01", "sub-01", "sub-02"]


@pytest.mark.parametrize(
    "given", ["sub-01/ses-01", "sub-01/ses-01/anat", "sub-01/ses-01/anat/sub-01_ses-01_T2w.nii.gz"]
)
def test_a_session_is_a_study(dataset, given):
    assert find_study(dataset / given).id == "sub-01_ses-01"
    assert [item["id"] for item in find_studies(dataset / given, masks="none")] == ["sub-01_ses-01"]


def test_a_subject_is_a_study_if_it_has_one_session(dataset):
    assert find_study(dataset / "sub-02").id == "sub-02"
    assert [item["id"] for item in find_studies(dataset / "sub-01", masks="none")] == ["sub-01_ses-01", "sub-01_ses-02"]


def test_a_mask_among_the_derivatives_is_read_only_where_a_datalist_names_it(dataset):
    """Most masks there are of the brain, and the names do not always tell."""
    mask = dataset / "derivatives" / "somebody" / "sub-02" / "anat" / "sub-02_dseg.nii.gz"
    mask.parent.mkdir(parents=True)
    shutil.copy(dataset / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz", mask)
    assert all("label" not in item for item in find_studies(dataset, masks="optional"))
    listed = {"image": "sub-02", "label": str(mask.relative_to(dataset))}
    datalist = dataset / "datalist.json"
    datalist.write_text(json.dumps({"testing": [listed]}))
    (item,) = find_studies(dataset, datalist=datalist)
    assert (item["id"], item["label"]) == ("sub-02", str(mask))


def test_names_tell_subject_session_and_contrast_agent():
    assert study_id_in("sub-01_ses-pre_run-1_T1w") == "sub-01_ses-pre"
    assert study_id_in("submarine_T1w") is None
    assert has_contrast_agent("sub-01_acq-x_ce-GD_run-1_T1w")
    assert not has_contrast_agent("alice_ce-x_T1w")


def test_a_folder_that_is_not_bids_stays_as_it_is(tmp_path):
    assert anat_folder(tmp_path) == tmp_path
