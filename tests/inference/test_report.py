"""The report: one page that holds what the files hold, the right way round, and lets nothing else in."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from custom.common.labels import COLOURS
from custom.common.modalities import MODALITIES, MSD_CHANNELS
from custom.common.regions import TITLES
from custom.data.phantom import make_study
from custom.inference.report import largest_sections, levels_reached, write_report
from tests.bundles.command_line import REPOSITORY, SEG, run_bundle, small_bundles
from tests.dicom.write_dicom import write_dicom_study
from tests.studies import BRATS_2021, BRATS_AFFINE, VOXEL_ML, bad_input, tiny_volumes, write_results, write_study


class Page(HTMLParser):
    """What a browser would find in a page: scripts, styles, data, policy, text, and attributes by name."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        self.elements.append(("", {}, []))  # what follows is not inside

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2].append(data)
            if self.elements[-1][0] not in ("script", "style"):
                self.text += data

    def all(self, tag):
        return [(attributes, "".join(data)) for name, attributes, data in self.elements if name == tag]

    @property
    def data(self):
        return json.loads(next(text for attributes, text in self.all("script") if attributes.get("id") == "study"))

    @property
    def policy(self):
        return next(a["content"] for a, _ in self.all("meta") if a.get("http-equiv") == "Content-Security-Policy")

    def image(self, name):
        return nib.Nifti1Image.from_bytes(gzip.decompress(b64decode(self.data["images"][name])))

    def pictures(self):
        return [imread(io.BytesIO(b64decode(a["src"].split(",")[1])))[..., :3] for a, _ in self.all("img")]


def report(folder: Path, study: Path) -> Page:
    return Page(write_report(write_results(folder / "results", study), study))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def study(folder):
    return write_study(folder, "study1")


@pytest.fixture(scope="module")
def page(folder, study):
    return report(folder, study)


def in_world(image):
    """Where the voxels of a mask are, in mm, to one decimal."""
    points = nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) > 0))
    return sorted(map(tuple, points.round(1).tolist()))


# ---- the page


def test_it_lies_beside_the_results_and_is_far_under_30_mb(folder, page):
    file = folder / "results" / "study1" / "study1_report.html"
    assert 2e6 < file.stat().st_size < 3e6  # the viewer is 2.3 MB of it
    assert sorted(path.suffix for path in file.parent.iterdir()) == [".gz"] * 5 + [".html", ".json"]


def test_it_names_nothing_outside_itself(page):
    for tag, attributes, _ in page.elements:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), tag


def test_its_policy_lets_its_own_scripts_and_style_run_and_nothing_else(page):
    def hashes(tag):
        texts = (text for attributes, text in page.all(tag) if attributes.get("type") != "application/json")
        return [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts]

    assert page.policy == (
        f"default-src 'none'; script-src {' '.join(hashes('script'))}; style-src {hashes('style')[0]}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert len(hashes("script")) == 2 and len(hashes("style")) == 1


def test_what_a_policy_with_hashes_forbids_is_not_there(page):
    assert not [tag for tag, attributes, _ in page.elements for name in attributes if re.match("on|style", name)]


def test_the_viewer_comes_with_its_licence(page):
    text = " ".join(page.text.split())
    assert "Copyright (c) 2021, Niivue" in text
    assert "Redistributions in binary form must reproduce the above copyright notice" in text


def test_the_same_results_give_the_same_page(folder, study, page):
    file = folder / "results" / "study1" / "study1_report.html"
    before = file.read_bytes()
    assert write_report(file.parent, study).read_bytes() == before


def test_a_study_s_name_is_text_and_no_markup(tmp_path):
    page = report(tmp_path, write_study(tmp_path, "<script>a&amp;'\""))
    assert len(page.all("script")) == 3
    assert "Study <script>a&amp;'\"" in page.text
    assert "found: <script>a&amp;'\"_t1.nii.gz" in page.text


# ---- figures


def rows(page):
    """The tables of a page: text of a row's first cell -> the figures of its others, without their units."""
    found: list[list[str]] = []
    for tag, _, data in page.elements:
        if tag == "tr":
            found.append([])
        elif tag == "td":
            found[-1].append("".join(data))
    return {cells[0]: [cell.split()[0] for cell in cells[1:]] for cells in found if cells[1:]}


def regions_in(results):
    """The regions (3, H, W, D) of a study's mask and their probabilities."""
    labels = np.asarray(nib.load(results / f"{results.name}_seg.nii.gz").dataobj)
    prob = np.asarray(nib.load(results / f"{results.name}_prob.nii.gz").dataobj)
    return np.stack([np.isin(labels, values) for values in ((1, 2, 4), (1, 4), (4,))]), np.moveaxis(prob, -1, 0)


def test_volumes_are_those_of_the_files(folder, page):
    masks, probabilities = regions_in(folder / "results" / "study1")
    voxels, possible = masks.sum((1, 2, 3)), (probabilities > 0.1).sum((1, 2, 3))
    assert voxels[0] > voxels[1] > voxels[2] > 0
    text = "".join(page.text.split())
    found = rows(page)
    for number, (title, region) in enumerate(zip(TITLES.values(), page.data["regions"], strict=True)):
        assert f"{title.capitalize()}{voxels[number] * VOXEL_ML:.1f} ml".replace(" ", "") in text
        expected = {
            "the mask": voxels[number],
            "0.3 or more": voxels[number],
            "0.5 or more": voxels[number],
            "0.7 or more": 0,
            "from 0.1 to below 0.9": possible[number],
        }
        for name, count in expected.items():
            assert found[name][number] == f"{count * VOXEL_ML:.1f}", name
        volumes = dict(zip(region["levels"], region["level_volumes"], strict=True))
        assert (region["title"], len(volumes)) == (title, 99)
        assert volumes[0.2] == pytest.approx(possible[number] * VOXEL_ML)
        assert volumes[0.21] == volumes[0.6] == pytest.approx(voxels[number] * VOXEL_ML)
        assert volumes[0.61] == 0


def test_the_tumour_s_parts_are_named_with_colour_and_volume(folder, page):
    labels = np.asarray(nib.load(folder / "results" / "study1" / "study1_seg.nii.gz").dataobj)
    names = {1: "Necrotic and non-enhancing core", 2: "Oedema", 4: "Enhancing tumour"}
    style = page.all("style")[0][1]
    for label, name in names.items():
        assert f"{name}: {(labels == label).sum() * VOXEL_ML:.1f} ml" in page.text
        assert f".part-{label} {{ background: rgb({', '.join(map(str, COLOURS[label]))}); }}" in style
    assert page.data["mask_colours"]["I"] == [0, *names]
    assert page.data["labels"] == [0, 2, 1, 4]  # of a voxel in no region, in the whole tumour alone, ...


def test_the_mask_has_the_labels_of_the_file(folder, page):
    labels = np.asarray(nib.load(folder / "results" / "study1" / "study1_seg.nii.gz").dataobj)
    found = np.asarray(page.image("seg").dataobj)
    assert np.unique(found).tolist() == [0, 1, 2, 4]
    assert [(found == label).sum() for label in (1, 2, 4)] == [(labels == label).sum() for label in (1, 2, 4)]


def test_enhancing_tumour_written_as_3_is_shown_as_such(study, page, tmp_path):
    results = write_results(tmp_path, study)
    change_run(results, lambda run: run["settings"].update(label_scheme="brats2023"))
    mask = nib.load(results / "study1_seg.nii.gz")
    labels = np.asarray(mask.dataobj)
    nib.save(nib.Nifti1Image(np.where(labels == 4, 3, labels).astype(np.uint8), mask.affine), mask.get_filename())
    other = Page(write_report(results, study))
    assert other.data["images"]["seg"] == page.data["images"]["seg"]
    assert other.data["regions"] == page.data["regions"]


def test_a_mask_of_the_whole_tumour_alone_has_one_region(study, tmp_path):
    results = write_results(tmp_path, study)
    change_run(results, lambda run: run["settings"].update(label_scheme="whole_tumour"))
    change_run(results, lambda run: run.update(regions=["wt"], volume_ml={"wt": run["volume_ml"]["wt"]}))
    for name, dtype in (("seg", np.uint8), ("prob", np.float32)):
        file = nib.load(results / f"study1_{name}.nii.gz")
        voxels = np.asarray(file.dataobj) > 0 if name == "seg" else np.asarray(file.dataobj)[..., 0]
        nib.save(nib.Nifti1Image(voxels.astype(dtype), file.affine), file.get_filename())
    page = Page(write_report(results, study))
    assert [region["name"] for region in page.data["regions"]] == ["wt"]
    assert page.data["labels"] == page.data["mask_colours"]["I"] == [0, 255]
    assert "Whole tumour" in page.text and "Tumour core" not in page.text


def change_run(results, change):
    """Change the run report in a study's folder of results."""
    file = results / f"{results.name}_run.json"
    run = json.loads(file.read_text())
    change(run)
    file.write_text(json.dumps(run))


def test_levels_are_compared_as_the_mask_s_threshold_was():
    levels = [percent / 100 for percent in range(1, 100)]
    probability = np.random.default_rng(0).permutation(
        np.float32([0, 1, *levels, *np.nextafter(np.float32(levels), 0)])
    )
    reached, counts = levels_reached(probability, levels)
    for number, level in enumerate(levels):
        expected = probability >= np.float32(level)
        assert np.array_equal(reached > number, expected)
        assert counts[number] == expected.sum()


def test_a_threshold_between_hundredths_has_a_place_of_its_own(study, tmp_path):
    results = write_results(tmp_path, study)
    change_run(results, lambda run: run["settings"].update(threshold=[0.5, 0.333, 0.25]))
    regions = Page(write_report(results, study)).data["regions"]
    assert [region["levels"][region["level"]] for region in regions] == [0.5, 0.333, 0.25]
    assert [len(region["levels"]) for region in regions] == [99, 100, 99]


def test_a_threshold_of_1_which_inference_takes_has_a_place_too(study, tmp_path):
    results = write_results(tmp_path, study)
    change_run(results, lambda run: run["settings"].update(threshold=1))
    regions = Page(write_report(results, study)).data["regions"]
    assert [region["levels"][region["level"]] for region in regions] == [1, 1, 1]


def test_at_its_own_threshold_the_mask_is_the_file_s(study, tmp_path):
    """A mask that something else than the threshold made, too."""
    results = write_results(tmp_path, study)
    mask = np.zeros(nib.load(study / "study1_seg.nii.gz").shape, np.uint8)
    mask[10:12, 10:13, 5] = 2
    nib.save(nib.Nifti1Image(mask, nib.load(study / "study1_seg.nii.gz").affine), results / "study1_seg.nii.gz")
    page = Page(write_report(results, study))
    volumes = [region["level_volumes"][region["level"]] for region in page.data["regions"]]
    assert volumes == pytest.approx([6 * VOXEL_ML, 0, 0])
    assert np.count_nonzero(page.image("seg").dataobj) == 6


def test_it_says_what_was_found_and_what_made_the_result(folder, page):
    run = json.loads((folder / "results" / "study1" / "study1_run.json").read_text())
    for modality in MODALITIES:
        assert f"found: study1_{modality}.nii.gz" in page.text
    assert run["weights"]["recoseg_seg"]["sha256"] in page.text
    for name, version in run["versions"].items():
        assert f"{name} {version}" in page.text
    assert run["intended_use"] in page.text


# ---- images


@pytest.mark.parametrize("name", ["seg", "prob_wt", "prob_tc", "prob_et", "flair", "t1ce", "t1ce_synthetic", "uptake"])
def test_images_are_bytes_with_axes_to_the_right_front_and_top(page, name):
    image = page.image(name)
    assert image.get_data_dtype() == np.uint8
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")


def test_the_mask_is_where_it_is_in_the_patient(folder, page):
    assert in_world(page.image("seg")) == in_world(nib.load(folder / "results" / "study1" / "study1_seg.nii.gz"))


def test_images_are_cut_to_the_brain_and_counted_on_the_study_s_grid(tmp_path):
    study = make_study(tmp_path, "phantom", shape=(50, 50, 34), spacing=(5, 5, 5))
    page = report(tmp_path, study)
    cut = page.image("flair").shape
    assert 0 < cut[0] < 50 and 0 < cut[1] < 50  # the brain is as high as this grid
    assert page.data["grid"] == [50, 50, 34]
    whole = np.asarray(nib.as_closest_canonical(nib.load(study / "phantom_seg.nii.gz")).dataobj) > 0
    box = tuple(slice(first, first + size) for first, size in zip(page.data["first"], cut, strict=True))
    assert np.array_equal(np.asarray(page.image("seg").dataobj) > 0, whole[box])


def test_grey_runs_from_1_to_255_in_the_brain_and_is_0_outside(study, page):
    grey = np.asarray(page.image("flair").dataobj)
    image = np.asarray(nib.as_closest_canonical(nib.load(study / "study1_flair.nii.gz")).dataobj)
    assert np.array_equal(grey > 0, image != 0)  # this head fills its grid
    assert grey[grey > 0].min() == 1 and grey.max() == 255


def test_synthetic_t1ce_has_the_grey_scale_of_the_real_one(study, page):
    image = nib.load(study / "study1_t1ce.nii.gz").get_fdata()
    low, high = np.percentile(image[image != 0], (0.5, 99.5))
    expected = round(1 + 254 * float(np.clip((100 - low) / (high - low), 0, 1)))
    synthetic = np.asarray(page.image("t1ce_synthetic").dataobj)
    assert np.unique(synthetic).tolist() == [0, expected]


def test_it_starts_at_the_largest_sections(page):
    mask = np.asarray(page.image("seg").dataobj) > 0
    for axis, start in enumerate(page.data["start"]):
        sections = np.moveaxis(mask, axis, 0).sum((1, 2))
        assert sections[start] == sections.max() > 0


def test_without_tumour_it_starts_in_the_middle():
    assert largest_sections(np.zeros((8, 6, 5))) == [4, 3, 2]


def test_pictures_have_the_patient_s_right_on_the_left_and_the_front_up(page):
    """The tumour of these studies lies to the patient's left and to the back."""
    outlined = page.pictures()[-1]
    for label in (1, 2, 4):
        rows, columns = np.nonzero((np.abs(outlined - np.array(COLOURS[label]) / 255) < 0.01).all(-1))
        assert columns.mean() > outlined.shape[1] / 2, label
        assert rows.mean() > outlined.shape[0] / 2, label
    mask = page.image("seg")
    centre = nib.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj)).mean(0))
    middle = nib.affines.apply_affine(mask.affine, (np.array(mask.shape) - 1) / 2)
    assert centre[0] < middle[0] and centre[1] < middle[1]  # RAS: left and posterior


def test_how_a_study_is_stored_changes_no_image_and_no_picture(study, page, tmp_path):
    turned = tmp_path / "study1"
    turned.mkdir()
    for file in study.iterdir():
        nib.save(nib.load(file).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), turned / file.name)
    other = report(tmp_path, turned)
    for name in page.data["images"]:
        assert np.array_equal(np.asarray(other.image(name).dataobj), np.asarray(page.image(name).dataobj))
    assert [picture.tobytes() for picture in other.pictures()] == [picture.tobytes() for picture in page.pictures()]


def test_pictures_are_to_scale_whatever_the_voxels(tmp_path):
    affine = np.diag([6.0, 3.0, 12.0, 1.0])
    for picture in report(tmp_path, write_study(tmp_path, "flat", affine=affine)).pictures():
        assert picture.shape == (72 * 3, 144 * 3, 3)


# ---- studies that lack something


def test_how_far_the_mask_can_be_trusted_is_told_above_the_pictures(study, tmp_path):
    measures = {"expected_dice": 0.671, "volume_ml_90": [40.02, 60.0]}
    flags = ["t1 is missing", "the mask of tumour core is likely poor: it expects a Dice of 0.67"]
    results = write_results(tmp_path, study)
    change_run(results, lambda run: run.update(statistics={"wt": measures}, flags=flags))
    page = Page(write_report(results, study))
    assert "90 % interval: 40.0 to 60.0 ml" in page.text
    assert "Note: t1 is missing; the mask of tumour core is likely poor: it expects a Dice of 0.67." in page.text
    assert "Dice that the probabilities promise0.67--" in page.text


def layers(page):
    return [a["id"].removesuffix("-show") for a, _ in page.all("input") if a.get("type") == "checkbox"]


def test_every_image_is_a_layer_from_the_mask_down(page):
    assert layers(page) == ["seg", "uptake", "t1ce_synthetic", "t1ce", "flair"]


def test_without_t1ce_the_mask_is_outlined_on_flair(tmp_path):
    names = {name: ending for name, ending in BRATS_2021.items() if name != "t1ce"}
    page = report(tmp_path, write_study(tmp_path, "study1", names=names))
    assert layers(page) == ["seg", "t1ce_synthetic", "flair"]
    assert "missing; a synthetic one took its place" in page.text
    assert "outlined on FLAIR" in page.text


def test_maps_of_zeros_are_left_out(study, tmp_path):
    """That is what the segmenter leaves where the synthesizer could not run."""
    results = write_results(tmp_path, study)
    for name in ("t1ce_synthetic", "uptake"):
        file = results / f"study1_{name}.nii.gz"
        nib.save(nib.Nifti1Image(0 * nib.load(file).get_fdata(), nib.load(file).affine), file)
    page = Page(write_report(results, study))
    assert layers(page) == ["seg", "t1ce", "flair"]
    assert "none: it needs FLAIR, T1 and T2" in page.text


def test_a_study_in_which_nothing_is_found_says_so(study, tmp_path):
    results = write_results(tmp_path, study)
    for name in ("seg", "prob"):
        file = results / f"study1_{name}.nii.gz"
        nib.save(nib.Nifti1Image(0 * nib.load(file).get_fdata(), nib.load(file).affine), file)
    assert "No tumour found: the middle axial slice" in Page(write_report(results, study)).text


def test_a_study_in_one_4d_file_is_shown_too(study, page, tmp_path):
    volumes = tiny_volumes("study1")
    image = np.stack([volumes[name] for name in MSD_CHANNELS], axis=-1)
    nib.save(nib.Nifti1Image(image, BRATS_AFFINE), tmp_path / "study1.nii.gz")
    other = Page(write_report(write_results(tmp_path, study), tmp_path / "study1.nii.gz"))
    assert other.data["images"] == page.data["images"]
    assert "found: study1.nii.gz" in other.text


def test_a_dicom_study_is_shown_by_its_series_and_without_the_patient_s_name(study, page, tmp_path):
    volumes = {name: volume for name, volume in tiny_volumes("study1").items() if name in MODALITIES}
    folder = write_dicom_study(tmp_path / "dicom", volumes, BRATS_AFFINE)
    other = Page(write_report(write_results(tmp_path, study), folder))
    assert other.data["images"] == page.data["images"]
    assert "found: 5 't1_mprage +gd'" in other.text
    assert not any(word in other.text for word in ("Muster", "HH4711", "1950", str(tmp_path)))


# ---- bad input


def test_a_folder_without_results_is_refused(study, tmp_path):
    with bad_input(tmp_path, "0 files *_run.json"):
        write_report(tmp_path, study)


def test_results_without_a_mask_are_refused(study, tmp_path):
    results = write_results(tmp_path, study)
    run = json.loads((results / "study1_run.json").read_text())
    del run["outputs"]["seg"]
    (results / "study1_run.json").write_text(json.dumps(run))
    with bad_input("study1_run.json", "expected seg and prob"):
        write_report(results, study)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "3", '{"outputs": []}', '{"id": "a"}', "[" * 100_000, "\xff"),
        *("../elsewhere", "/elsewhere", "id ..", "id ../study2"),
    ],
)
def test_a_run_report_that_cannot_be_one_is_refused(study, tmp_path, text):
    results = write_results(tmp_path, study)
    file = results / "study1_run.json"
    if "elsewhere" in text:  # a map of another study, or another file
        run = json.loads(file.read_text())
        run["outputs"]["seg"] = f"{text}/study2_seg.nii.gz"
        text = json.dumps(run)
    elif text.startswith("id "):
        text = json.dumps(json.loads(file.read_text()) | {"id": text.removeprefix("id ")})
    file.write_bytes(text.encode("latin-1"))
    with bad_input(file, "cannot be read as a run report"):
        write_report(results, study)


def test_results_of_another_grid_are_refused_and_leave_nothing(study, tmp_path):
    results = write_results(tmp_path, study)
    other = write_study(tmp_path, "study2", shape=(24, 24, 12))
    with bad_input("study1_seg.nii.gz", "grid"):
        write_report(results, other)
    assert not list(results.glob("*report*"))


def test_a_map_that_is_gone_is_named(study, tmp_path):
    results = write_results(tmp_path, study)
    (results / "study1_prob.nii.gz").unlink()
    with bad_input("study1_prob.nii.gz", "does not exist"):
        write_report(results, study)


# ---- a mask that somebody corrected


def test_an_edited_mask_is_called_so_with_both_volumes(study, tmp_path):
    results = write_results(tmp_path, study)
    run = json.loads((results / "study1_run.json").read_text())
    run |= {
        "volume_ml": {"wt": 51.5, "tc": 12.5, "et": 7.25},
        "outputs_sha256": {
            name: sha256((results / file).read_bytes()).hexdigest() for name, file in run["outputs"].items()
        },
    }
    (results / "study1_run.json").write_text(json.dumps(run))
    written = Page(write_report(results, study))
    assert "edited" not in " ".join(written.text.split())
    assert not written.data["edited"]

    mask = nib.load(results / "study1_seg.nii.gz")
    voxels = np.zeros(mask.shape, np.uint8)
    voxels[10:20, 10:20, 5] = 2
    voxels[10:20, 10:15, 5] = 4
    nib.save(nib.Nifti1Image(voxels, mask.affine), results / "study1_seg.nii.gz")
    page = Page(write_report(results, study))
    text = "".join(page.text.split())  # elements have no space between them
    for ml, before in (("21.6", "51.5"), ("10.8", "12.5"), ("10.8", "7.2")):
        said = f"{ml} ml the edited mask; before it was edited, with a probability of 0.5 or more, it had {before} ml"
        assert said.replace(" ", "") in text
    assert rows(page)["the mask before it was edited"] == ["51.5", "12.5", "7.2"]
    assert rows(page)["the edited mask"] == ["21.6", "10.8", "10.8"]
    assert "themask:probability" not in text
    assert page.data["edited"]
    volumes = [region["level_volumes"][region["level"]] for region in page.data["regions"]]
    assert volumes == pytest.approx([100 * VOXEL_ML, 50 * VOXEL_ML, 50 * VOXEL_ML])


def test_an_edited_mask_with_a_value_of_another_scheme_is_refused(study, tmp_path):
    results = write_results(tmp_path, study)
    mask = nib.load(results / "study1_seg.nii.gz")
    nib.save(nib.Nifti1Image(np.full(mask.shape, 3, np.uint8), mask.affine), results / "study1_seg.nii.gz")
    with bad_input("study1_seg.nii.gz", "has the value 3", "label_scheme brats2021"):
        write_report(results, study)


def test_a_probability_of_fewer_regions_than_the_run_had_is_refused(study, tmp_path):
    results = write_results(tmp_path, study)
    prob = nib.load(results / "study1_prob.nii.gz")
    nib.save(nib.Nifti1Image(prob.get_fdata()[..., 0], prob.affine), results / "study1_prob.nii.gz")
    with bad_input("study1_prob.nii.gz", "has 1 channel", "wt, tc, et"):
        write_report(results, study)


# ---- the command line


@pytest.mark.slow
def test_a_verb_writes_it_again(study, tmp_path):
    results = write_results(tmp_path, study)
    command = [sys.executable, "-m", "custom", "report", results, study]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == str(results / "study1_report.html"), done.stderr
    assert (results / "study1_report.html").is_file()


@pytest.mark.slow
def test_the_real_command_line_writes_it(tmp_path):
    study = make_study(tmp_path, "phantom", shape=(60, 60, 40), spacing=(4, 4, 4))
    bundles = small_bundles(tmp_path / "bundles")
    options = ("--dataset_dir", study, "--output_dir", tmp_path / "results", "--report", "true")
    run_bundle(bundles / SEG, "inference", *options, cwd=tmp_path)
    page = Page(tmp_path / "results" / "phantom" / "phantom_report.html")
    run = json.loads((tmp_path / "results" / "phantom" / "phantom_run.json").read_text())
    volumes = {region["name"]: region["level_volumes"][region["level"]] for region in page.data["regions"]}
    assert volumes == pytest.approx(run["volume_ml"], abs=1e-3)
    for weights in run["weights"].values():
        assert weights["sha256"] in page.text
