"""A file of prepared studies for a training without the studies' own files, small enough to send to another machine."""

from __future__ import annotations

import bz2
import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from custom.common.errors import BadInput

LEVELS = 127  # of the intensities in a pack


def write_pack(file: str | Path, studies: Iterable[dict[str, Any]]) -> int:
    """Write studies and return their number.

    Each has ``channels``, name -> volume (H, W, D) in [0, 1], 0 outside the brain; ``label`` (regions, H, W, D), NaN
    where unknown, the unknown ones last; and other values that JSON can hold, which are kept. Intensities and shares of
    a region become whole numbers, and channels that are zero everywhere are left out.
    """
    heads, parts = [], []
    for study in studies:
        brain = np.any([volume != 0 for volume in study["channels"].values()], axis=0)
        box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in brain.nonzero())
        inside = brain[box]
        given = {name: volume for name, volume in study["channels"].items() if volume.any()}
        # 0 is air: the darkest voxel of a brain is 1
        levels = [np.where(each := volume[box][inside], np.rint(each * LEVELS).clip(1), 0) for volume in given.values()]
        known = [region for region in study["label"] if not np.isnan(region).any()]
        shares = [np.rint(region[box][inside] * 255) for region in known]
        pieces = [bz2.compress(np.asarray(piece, np.uint8).tobytes()) for piece in (*levels, *shares)]
        pieces.insert(0, bz2.compress(np.packbits(inside).tobytes()))
        head = {key: value for key, value in study.items() if key not in ("channels", "label")}
        head["shape"], head["start"], head["size"] = brain.shape, [part.start for part in box], inside.shape
        head["names"], head["regions"] = list(given), len(study["label"])
        heads.append({**head, "bytes": [len(piece) for piece in pieces]})
        parts += pieces
    start = json.dumps(heads).encode()
    content = b"".join([struct.pack("<Q", len(start)), start, *parts])
    Path(file).write_bytes(content + struct.pack("<I", zlib.crc32(content)))
    return len(heads)


def read_pack(file: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the studies that `write_pack` wrote, as float16, on their whole grid.

    Raises:
        BadInput: the file is not as it was written.
    """
    data = Path(file).read_bytes()
    if struct.pack("<I", zlib.crc32(data[:-4])) != data[-4:]:
        raise BadInput(f"{file}: found another checksum than when it was written, expected a complete pack of studies.")
    start = 8 + struct.unpack("<Q", data[:8])[0]
    for head in json.loads(data[8:start]):
        pieces = []
        for size in head.pop("bytes"):
            pieces.append(np.frombuffer(bz2.decompress(data[start : start + size]), np.uint8))
            start += size
        shape, corner, size = head.pop("shape"), head.pop("start"), head.pop("size")
        inside = np.unpackbits(pieces[0])[: math.prod(size)].reshape(size).astype(bool)
        brain = np.zeros(shape, bool)
        brain[tuple(slice(first, first + length) for first, length in zip(corner, size, strict=True))] = inside
        names, regions = head.pop("names"), head.pop("regions")
        channels = {name: np.zeros(shape, np.float16) for name in names}
        for name, levels in zip(names, pieces[1:], strict=False):
            channels[name][brain] = levels / np.float32(LEVELS)
        label = np.full((regions, *shape), np.nan, np.float16)
        for region, share in enumerate(pieces[1 + len(names) :]):
            label[region] = 0
            label[region][brain] = share / np.float32(255)
        yield {**head, "channels": channels, "label": label}
