"""How well copies of a scan are told from other scans, by `custom.data.duplicates`, and how long that takes.

python benchmarks/duplicates.py told DATASET_DIR [--modality flair] [--copied 8] [--datalist FILE] [--plain true]
python benchmarks/duplicates.py speed [--studies "[500, 2000, 5000]"]

`told` compares one modality of all studies of a dataset with each other: prints the pairs with the highest
correlation, the highest for other patients, and groups of identical images. Of some studies, evenly spaced in the list,
makes copies as processing does, and prints the lowest correlation of each kind with its original. With ``--plain``,
also the highest correlation of other patients without the filter, to show what it is for.

`speed` compares the four modalities of as many studies as asked for, as `recoseg check` does after it has read them.
What is compared are generated fingerprints, random numbers; a hundredth of the studies are mirrored copies of others.
Prints a Markdown table: pairs, copies that were made, those that were found in all modalities, other pairs that were
taken for copies, seconds, CPU seconds, and the memory that the comparison took, without the mapped file of the
fingerprints. Each number of studies has a process of its own.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import fire
import numpy as np
from scipy import ndimage
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.scale import Peak, in_own_process, own_memory  # noqa: E402
from custom.common.modalities import MODALITIES  # noqa: E402
from custom.data.datasets import find_studies  # noqa: E402
from custom.data.duplicates import COPY, SIDE, copies, fingerprint, identical, likeness, pairs  # noqa: E402
from custom.data.load import LoadStudyd  # noqa: E402

Image = tuple[np.ndarray, np.ndarray]  # voxels and affine
SHOWN = 12


def copies_of(volume: np.ndarray, affine: np.ndarray) -> Iterator[tuple[str, Image]]:
    """Yield the name of a kind of processing, and an image (H, W, D) after it, with its affine."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    brain = volume != 0
    rng = np.random.default_rng(0)
    high = np.percentile(volume[brain], 99.5)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in volume.shape), indexing="ij", sparse=True)
    yield "square root of the intensities", (np.sqrt(np.clip(volume / high, 0, 1)), affine)
    yield "bias field of factor 2.7", (volume * np.exp(sum(axes) / 6), affine)
    noise = rng.normal(0, 0.15 * volume[brain].std(), brain.shape)
    yield "noise of 15 % of the contrast", (brain * (volume + noise), affine)
    yield "smoothed, 2 mm", (ndimage.gaussian_filter(volume, 2 / spacing) * brain, affine)
    yield "3 mm less brain", (volume * (ndimage.distance_transform_edt(brain, sampling=spacing) > 3), affine)
    yield "lower fifth cut off", (volume * (np.cumsum(brain.sum((0, 1))) > brain.sum() / 5), affine)
    coarse = ndimage.zoom(volume, spacing / 3, order=1)
    sides = np.array(volume.shape) / coarse.shape
    coarse[np.abs(coarse) < 0.02 * high] = 0
    yield "resampled to 3 mm", (coarse, affine @ np.diag([*sides, 1]))
    thick = ndimage.zoom(ndimage.zoom(volume, (1, 1, spacing[2] / 6), order=1), (1, 1, 6 / spacing[2]), order=1)
    yield "through slices of 6 mm", (np.where(np.abs(thick) < 0.02 * high, 0, thick), affine)
    yield "left and right exchanged", (volume[::-1], affine)
    yield "affine lost", (volume, np.diag([*spacing, 1]))
    angle = np.deg2rad(5)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    centre = np.array(volume.shape) / 2
    yield "turned by 5 degrees", (ndimage.affine_transform(volume, turn, centre - turn @ centre, order=1), affine)
    together = ndimage.gaussian_filter(np.sqrt(np.clip(volume * np.exp(sum(axes) / 6) / high, 0, 1)), 1 / spacing)
    together = together * (ndimage.distance_transform_edt(brain, sampling=spacing) > 3)
    yield "root, bias field, smoothed and less brain together, exchanged", (together[::-1], affine)


def told(
    dataset_dir: str, modality: str = "flair", copied: int = 8, datalist: str | None = None, plain: bool = False
) -> None:
    """Print the tables."""
    items = find_studies(dataset_dir, "all", datalist, modalities=(modality,), masks="none")
    load = LoadStudyd(modalities=(modality,))
    names, patients, prints, coarse = [], [], [], []
    lowest: dict[str, list[float]] = {}
    chosen = set(np.linspace(0, len(items) - 1, copied).astype(int)) if copied else set()
    for index, item in enumerate(tqdm(items, desc="Reading", unit="study", disable=None)):
        image = load(item)["image"]
        volume, affine = image[0].numpy(), np.asarray(image.affine)
        names.append(item["id"])
        patients.append(item["image"].patient)
        prints.append(fingerprint(volume, affine))
        if plain:
            coarse.append(plain_values(volume))
        for kind, (copy, its_affine) in copies_of(volume, affine) if index in chosen else ():
            pair = np.stack([prints[-1].detail, fingerprint(copy, its_affine).detail])
            lowest.setdefault(kind, []).append(correlations(pair)[0, 1])
    found = correlations(np.stack([one.detail for one in prints]))
    rows, columns = np.triu_indices(len(names), 1)
    of_pairs = found[rows, columns]
    others = np.array([patients[row] != patients[column] for row, column in zip(rows, columns, strict=True)], bool)
    print(f"{len(names)} images of {modality}, {len(of_pairs)} pairs, {np.sum(~others)} of one patient by their ids")
    percentiles = {share: np.percentile(of_pairs[others], share) for share in (50, 90, 99, 99.9, 100)}
    shares = ", ".join(f"{share:g} %: {value:.3f}" for share, value in percentiles.items())
    print(f"correlation of different patients, percentiles: {shares}; threshold {COPY}")
    for group in identical([one.digest for one in prints]):
        print(f"identical voxels: {' and '.join(names[one] for one in group)}")
    print("\n| highest | | correlation |\n|---|---|---|")
    for best in np.argsort(-of_pairs)[:SHOWN]:
        print(f"| {names[rows[best]]} | {names[columns[best]]} | {of_pairs[best]:.3f} |")
    print(f"\n| copies of {len(chosen)} studies | lowest | median |\n|---|---|---|")
    for kind, values in lowest.items():
        print(f"| {kind} | {min(values):.3f} | {np.median(values):.3f} |")
    if plain:
        without = np.corrcoef(np.stack(coarse))[rows, columns][others]
        print(f"\nwithout the filter, different patients: median {np.median(without):.3f}, highest {without.max():.3f}")


def correlations(details: np.ndarray) -> np.ndarray:
    """Return the correlations of all images, (N, N)."""
    found = np.zeros((len(details), len(details)), np.float32)
    for row, column, block in likeness(details):
        found[row : row + block.shape[0], column : column + block.shape[1]] = block
    return found


def plain_values(volume: np.ndarray) -> np.ndarray:
    """Return the intensities of an image in a cube around its brain, (SIDE ** 3,)."""
    box = ndimage.find_objects((volume != 0).astype(np.uint8))[0]
    return ndimage.zoom(volume[box], [SIDE / (part.stop - part.start) for part in box], order=1).ravel()


def speed(studies: Sequence[int] = (500, 2000, 5000)) -> None:
    """Print how long the comparison of generated fingerprints takes."""
    columns = ["studies", "pairs of scans", "copies made", "copies found", "others found", "s", "CPU s", "memory, MB"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for count in studies:
        row = [count, len(MODALITIES) * pairs(count), *in_own_process(compare_generated, count)]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def compare_generated(count: int) -> tuple[int, int, int, float, float, int]:
    """Return the row of a number of studies, see `speed`."""
    rng, made = np.random.default_rng(0), {(one, count - 1 - one) for one in range(count // 100)}
    with tempfile.TemporaryDirectory() as folder:
        details = np.memmap(Path(folder) / "details", np.int8, "w+", shape=(len(MODALITIES), count, SIDE**3))
        for of_modality in details:
            for row in range(count):
                of_modality[row] = rng.integers(-99, 99, SIDE**3)
            for one, copy in made:
                of_modality[copy] = np.flip(of_modality[one].reshape(SIDE, SIDE, SIDE), one % 3).ravel()
        before, peak, began, cpu = own_memory(), Peak(), time.perf_counter(), time.process_time()
        found = [{pair[:2] for pair in copies(of_modality)} for of_modality in details]
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        memory = peak.stop() - before
        del details, of_modality  # Windows removes no file that is open
    in_all, others = made.intersection(*found), set.union(*found) - made
    return len(made), len(in_all), len(others), round(seconds, 1), round(cpu, 1), round(memory)


if __name__ == "__main__":
    fire.Fire({"told": told, "speed": speed})
