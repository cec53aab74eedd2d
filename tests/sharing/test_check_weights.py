"""What a model.pt may hold, seen without unpickling it."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from custom.sharing.check_weights import check_weights
from tests.studies import bad_input


class Touch:
    """Unpickling this runs code: it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def rewritten(path: Path, pickled: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write the archive again, with another pickle or another compression."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, pickled if pickled is not None and name.endswith("data.pkl") else content)
    return path


def two_archives(path: Path, first: object, last: object) -> Path:
    """Write a file in which torch.load finds ``first`` and Python's zipfile ``last``.

    The list of contents is said to begin at the same place in both; torch.load takes that from the file's beginning,
    zipfile from where it finds the list.
    """
    archives = []
    for content in (first, last):
        torch.save(content, path)
        with zipfile.ZipFile(path) as archive:
            pickled = archive.read("model/data.pkl")
        archives.append(rewritten(path, pickled.ljust(1000, b"\0")).read_bytes())
    path.write_bytes(b"".join(archives))
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_a_state_dict_passes(tmp_path, dtype):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2)).to(torch.float32)
    state = {name: value.to(dtype) for name, value in network.state_dict().items()}
    torch.save(OrderedDict(state), tmp_path / "model.pt")
    check_weights(tmp_path / "model.pt", "models/model.pt")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    check_weights(tmp_path / "model.pt", "models/model.pt")


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_refused_and_does_not_run(tmp_path, protocol):
    path, canary = tmp_path / "model.pt", tmp_path / "ran"
    torch.save({"weight": Touch(canary)}, path, pickle_protocol=protocol)
    with bad_input("models/model.pt", "pickle"):
        check_weights(path, "models/model.pt")
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists()  # the file was one that would have


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"weight": torch.ones(1), "epoch": 3}, "a int under 'epoch'"),
        ({"network": {"weight": torch.ones(1)}}, "a dict under 'network'"),
        ({1: torch.ones(1)}, "under 1"),
        ([torch.ones(1)], "a list"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        ({"weight": bytearray(1)}, "bytearray"),
        ({"weight": nn.Parameter(torch.ones(1))}, "_rebuild_parameter"),
        ({"weight": Path("x")}, "pathlib"),
    ],
)
def test_more_than_tensors_is_refused(tmp_path, content, part):
    torch.save(content, tmp_path / "model.pt")
    with bad_input("models/model.pt", part):
        check_weights(tmp_path / "model.pt", "models/model.pt")


@pytest.mark.parametrize(
    ("pickled", "part"),
    [
        (b"(S'x'\nios\nsystem\n.", "opcode"),
        (pickle.dumps(Path.touch, protocol=4), "opcode"),
        (b"cos\nsystem\n.", "os.system"),
        (b"cbuiltins\nbytearray\n(I100000000000\ntR.", "builtins.bytearray"),
        (b"\x80\x02.", "one pickle"),
        (b"\xff", "one pickle"),
    ],
)
def test_other_ways_to_import_are_refused(tmp_path, pickled, part):
    torch.save({"weight": torch.ones(1)}, tmp_path / "model.pt")
    with bad_input("models/model.pt", part):
        check_weights(rewritten(tmp_path / "model.pt", pickled), "models/model.pt")


def test_a_compressed_archive_is_refused(tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "model.pt")
    with bad_input("models/model.pt", "compressed"):
        check_weights(rewritten(tmp_path / "model.pt", compression=zipfile.ZIP_DEFLATED), "models/model.pt")


def test_the_old_format_and_torchscript_are_refused(tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    with bad_input("models/model.pt", "one pickle"):
        check_weights(tmp_path / "model.pt", "models/model.pt")
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "model.pt")
    with bad_input("models/model.pt", "one pickle"):
        check_weights(tmp_path / "model.pt", "models/model.pt")


@pytest.mark.parametrize("content", [{"other": torch.zeros(1)}, {"weight": torch.ones(1), "code": Touch(Path("ran"))}])
def test_two_archives_in_one_file_are_refused(tmp_path, content):
    path = two_archives(tmp_path / "model.pt", content, {"weight": torch.ones(1)})
    reader = torch._C.PyTorchFileReader(str(path))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("model/data.pkl") != reader.get_record("data.pkl")
    with bad_input("models/model.pt", "two archives"):
        check_weights(path, "models/model.pt")


def appended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"hidden")


def commented(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hidden"


def another_record(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data/7", "hidden")


def another_name(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/hidden.txt", "hidden")


def longer_version(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content + b"hidden" if name.endswith("/version") else content)


def behind_the_pickle(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("model/data.pkl")
    rewritten(path, pickled + b"hidden")


def between_the_records(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"FB", b"FB", 1).replace(b"ZZZZ", b"hide", 1))


def a_part_of_a_tensor(path: Path) -> None:
    torch.save({"weight": torch.ones(100)[:1]}, path)


def a_half_that_another_tensor_counts_for(path: Path) -> None:
    whole = torch.ones(100)
    torch.save({"weight": whole[:50], "bias": whole[:50]}, path)


def more_numbers_than_are_stored(path: Path) -> None:
    torch.save({"weight": torch.ones(1).expand(10**11)}, path)


def an_attribute(path: Path) -> None:
    weights = OrderedDict(weight=torch.ones(1))
    weights.patient = 3  # type: ignore[attr-defined]
    torch.save(weights, path)


def an_attribute_of_a_module(path: Path) -> None:
    weights = OrderedDict(weight=torch.ones(1))
    weights._metadata = {"": {"version": torch.ones(1)}}  # type: ignore[attr-defined]
    torch.save(weights, path)


def a_text_in_the_pickle(path: Path) -> None:
    weights = OrderedDict(weight=torch.ones(1))
    weights._metadata = {"a patient's name": {"version": 1}}  # type: ignore[attr-defined]
    torch.save(weights, path)


def a_value_that_is_not_returned(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("model/data.pkl")
    rewritten(path, pickled[:2] + b"J\x01\x02\x03\x04" + pickled[2:])


def an_escape_in_a_name(path: Path) -> None:
    torch.save({"weight\x1b[2K": torch.ones(1)}, path)


@pytest.mark.parametrize(
    ("hide", "part"),
    [
        (appended, "."),
        (commented, "bytes after its records"),
        (another_record, "records of tensors"),
        (another_name, "hidden.txt"),
        (longer_version, "version"),
        (behind_the_pickle, "after the end of its pickle"),
        (between_the_records, "before the record"),
        (a_part_of_a_tensor, "400 bytes of which tensors use 1%"),
        (a_half_that_another_tensor_counts_for, "400 bytes of which tensors use 50%"),
        (more_numbers_than_are_stored, "more than once"),
        (an_attribute, "attributes"),
        (an_attribute_of_a_module, "attributes"),
        (a_text_in_the_pickle, "a patient's name"),
        (a_value_that_is_not_returned, "one pickle"),
        (an_escape_in_a_name, "\\x1b"),
    ],
)
def test_what_no_tensor_shows_is_refused(tmp_path, hide, part):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(1)}, path)
    check_weights(path, "models/model.pt")
    hide(path)
    with bad_input("models/model.pt", part):
        check_weights(path, "models/model.pt")


def test_a_name_that_takes_years_to_look_up_is_refused(tmp_path):
    """A tuple of one tuple twice, 50 times: its hash visits every path through it."""
    torch.save({"weight": torch.ones(1)}, tmp_path / "model.pt")
    nested = b"".join(b"h%c\x86q%c" % (number, number + 1) for number in range(1, 51))
    pickled = b"\x80\x02})\x85q\x01" + nested + b"K\x01s."
    with bad_input("models/model.pt", "a tuple that its pickle uses twice"):
        check_weights(rewritten(tmp_path / "model.pt", pickled), "models/model.pt")


def test_empty_and_shared_tensors_pass(tmp_path):
    shared = torch.ones(3)
    torch.save({"a": shared, "b": shared, "c": torch.ones(0), "d": torch.ones(0)}, tmp_path / "model.pt")
    check_weights(tmp_path / "model.pt", "models/model.pt")
