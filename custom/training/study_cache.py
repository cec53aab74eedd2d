"""Preprocessed studies on disk, of which a training reads single slices.

MONAI's `PersistentDataset` is not used. Its key is the path of a file and not its content, and leaves out the code and
the weights that a result depends on; it reads whole files where slices are needed; and it moves files into place from
the system's temporary folder, which is not one step if that is on another disk.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from monai.data import Dataset, MetaTensor

import custom
from custom.common.atomic_files import require_writable, sha256, space_needed, written_beside
from custom.common.cli_flags import as_path
from custom.common.code_hash import code_hash
from custom.common.errors import BadInput
from custom.common.modalities import MODALITIES
from custom.common.settings_hash import settings_hash
from custom.data.find import find_study
from custom.training.progress import with_progress
from custom.training.slice_index import slice_index

logger = logging.getLogger(__name__)

KEYS = ("image", "label", "brain")  # what training and validation use of a preprocessed study, besides its id
PACKAGES = ("monai", "nibabel", "numpy", "pydicom", "scipy", "torch")  # that compute the voxels
# Files that are mapped at a time. To open one takes 2 ms; it then takes 11 kB of memory, and the system's table of its
# pages up to 0.2 % of its size. Each is one of the 65,530 mappings that Linux allows a process, and no file descriptor.
OPEN = 16384
SETTLED = 2.0  # seconds after which a changed file has another time, in any file system
PATIENCE = timedelta(days=7)  # for the other processes: their shares of thousands of studies differ by hours


class StudyCache(Dataset):
    """Preprocess each study once, in a file in ``cache_dir``, and map that file into memory when it is used.

    The name of a study's file is a hash of the content of its images and mask, its id, the transform with all settings
    and weights, see `settings_hash`, the code in ``custom/`` and the versions of the packages: whatever changes,
    another file is used, and none that is out of date. A file appears when it is complete, so several processes can use
    one folder, and a run that is killed leaves no part of one. Of several processes of one training, each preprocesses
    its own share of the studies that are missing, and reads the others'.

    Memory hardly grows with the number of studies: the pages of mapped files are the system's, which takes them back.

    An item is a dictionary of ``image`` (C, H, W, D), ``label`` and ``brain``, if the transform returns them, as
    `MetaTensor` with an affine and no other metadata, which must not be changed, and ``id``. Axial slices are
    contiguous.

    Args:
        data: the studies, see `custom.data.datasets.find_studies`.
        transform: the preprocessing, without random transforms.
        output_dir: folder of the training's output.
        cache_dir: the folder, made if missing, by default ``cache`` in ``output_dir``. It holds the voxels of patients'
            images. Nothing is removed from it.
        num_workers: threads that preprocess studies. A network in the transform uses several cores by itself.

    Raises:
        BadInput: ``cache_dir`` cannot be written to, the disk is full, or a study cannot be used.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Any,
        output_dir: str | Path,
        cache_dir: str | Path | None = None,
        num_workers: int = 1,
    ) -> None:
        super().__init__(data, transform)
        default = as_path(output_dir, "output_dir") / "cache"
        self.folder = require_writable(default if cache_dir is None else cache_dir, "cache_dir")
        self.num_workers = num_workers
        self.folder.mkdir(parents=True, exist_ok=True)
        with space_needed(self.folder):
            _make_ignored(self.folder)
        self.settings = settings_of(transform)
        # with a time limit of its own, since that of the training's group, 10 or 30 minutes, would end the training
        group = dist.new_group(backend="gloo", timeout=PATIENCE) if idist.get_world_size() > 1 else None
        self.files = [self._file(item) for item in data]
        missing = torch.tensor([not _is_there(file) for file in self.files], dtype=torch.int32)
        if group is not None:  # all processes share one list, since some may already find what others have written
            dist.all_reduce(missing, dist.ReduceOp.MAX, group)
        everywhere = missing.nonzero().flatten().tolist()
        self._prepare(everywhere[idist.get_rank() :: idist.get_world_size()])
        if group is not None:
            dist.barrier(group)
            self._prepare(everywhere)  # what others wrote to the disk of another machine
            dist.barrier(group)

    def slice_indices(self) -> list[dict[str, torch.Tensor]]:
        """Return the `slice_index` of each study."""
        return [{name: part.clone() for name, part in open_study(file)["slices"].items()} for file in self.files]

    def _transform(self, index: int) -> dict[str, Any]:
        """Return a study, as `Dataset` asks for it."""
        stored = open_study(self.files[index])
        volumes = {
            key: MetaTensor(stored[key].movedim(0, -1), affine=stored["affine"]) for key in KEYS if key in stored
        }
        return {"id": stored["id"], **volumes}

    def _file(self, item: Mapping[str, Any]) -> Path:
        """Return where a study's file is, or will be."""
        study = find_study(
            item["image"], item.get("label"), study_id=item.get("id"), modalities=(), optional=MODALITIES
        )
        label = item.get("label") is not None  # without, `LoadStudyd` does not read a mask that lies beside the images
        files = study.all_files if label or study.label is None else study.all_files[:-1]
        parts = (self.settings, study.id, tuple(study.images), study.channels, label, self._content(files))
        return self.folder / f"{hashlib.sha256(repr(parts).encode()).hexdigest()}.pt"

    def _content(self, files: Sequence[Path]) -> str:
        """Return a hash of the contents of files; it is kept, and used until the system says that one was changed."""
        states = [(str(file.resolve()), file.stat()) for file in files]
        # no program can set st_ctime_ns
        stamps = [(name, at.st_size, at.st_ino, at.st_mtime_ns, at.st_ctime_ns) for name, at in states]
        kept = self.folder / f"{hashlib.sha256(repr(stamps).encode()).hexdigest()}.sha256"
        with suppress(OSError, UnicodeDecodeError):  # it is another user's, whom alone the umask lets in
            # it may be empty or zeros after a power failure
            if kept.is_file() and re.fullmatch("[0-9a-f]{64}", known := kept.read_text()):
                return known
        content = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
        if max(at.st_ctime for _, at in states) < time.time() - SETTLED:
            with written_beside(kept) as temporary:
                temporary.write_text(content)
        return content

    def _prepare(self, numbers: Sequence[int]) -> None:
        """Preprocess studies and write their files, except those that are there."""
        missing = [number for number in numbers if not _is_there(self.files[number])]
        if not missing:
            return
        pool = ThreadPoolExecutor(self.num_workers)
        try:
            made = [pool.submit(self._write, number) for number in missing]
            for done, each in enumerate(with_progress(made, "Preparing", "studies"), start=1):
                size = each.result()
                if done == 1:
                    self._check_space(size * len(missing), size * (len(missing) - 1))
        finally:
            pool.shutdown(cancel_futures=True)

    def _check_space(self, whole: int, rest: int) -> None:
        """Say what the studies will take, in bytes, and refuse to begin what the disk cannot hold."""
        free = shutil.disk_usage(self.folder).free
        if rest > free:
            raise BadInput(
                f"{self.folder} has {free / 1e9:.1f} GB of free space, but the studies need about {rest / 1e9:.1f} GB "
                "more, expected more space, or --cache_dir with a folder on another disk."
            )
        if idist.get_rank() == 0:
            logger.info(
                "The cache %s holds patients' images, about %.1f GB more by this training. When no training needs it, "
                "delete the folder.",
                self.folder,
                whole / 1e9,
            )

    def _write(self, number: int) -> int:
        """Preprocess a study, write its file, and return the size in bytes."""
        study: Any = super()._transform(number)
        volumes = {key: torch.as_tensor(study[key]).as_subclass(torch.Tensor) for key in KEYS if key in study}
        slices = {key: volume.movedim(-1, 0).contiguous() for key, volume in volumes.items()}
        content = io.BytesIO()  # torch's own error of a full disk does not tell that it is one
        affine = MetaTensor(study["image"]).affine
        torch.save({"id": study["id"], "affine": affine, **slices, "slices": slice_index(volumes)}, content)
        if self._file(self.data[number]) != self.files[number]:
            raise BadInput(
                f"{study['id']}: its files were changed while it was preprocessed, expected files that stay as they "
                "are during a training."
            )
        with written_beside(self.files[number]) as temporary, temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # else the name may reach the disk before the voxels, if the power fails
        return content.getbuffer().nbytes


@lru_cache(maxsize=8)
def settings_of(transform: Any) -> str:
    """Return a hash of a transform, of the code and of the versions of the packages.

    It is of the transform before its first use, which may leave traces in it, such as a sampler's time steps.
    """
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    return "\n".join([settings_hash(transform), code_hash(Path(custom.__file__).parent), *versions])


@lru_cache(maxsize=OPEN)
def open_study(file: Path) -> dict[str, Any]:
    """Return what is in a study's file; voxels are read from the disk when they are used."""
    return torch.load(file, mmap=True, weights_only=True)


def _is_there(file: Path) -> bool:
    """Return whether a file is there and complete: the directory of its parts is at its end."""
    try:
        open_study(file)
    except Exception:  # a damaged file makes the unpickler raise nearly anything
        return False
    return True


def _make_ignored(folder: Path) -> None:
    """Let git ignore a folder, wherever it lies, as the caches of pytest and ruff do."""
    file = folder / ".gitignore"
    if not file.is_file():
        file.write_text("*\n")
