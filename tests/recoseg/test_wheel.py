"""The wheel: what it contains, and that it segments in a new environment, away from this project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import custom
from custom.data.phantom import make_study
from custom.sharing.pack import pack_bundles

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 60e6  # bytes


# Takes a command's network away, where the system allows that to an ordinary user.
OFFLINE = ("unshare", "--net", "--map-root-user")
if not shutil.which("unshare") or subprocess.run([*OFFLINE, "true"], capture_output=True).returncode:
    OFFLINE = ()


def run(*command, cwd, statuses=(0,)):
    """Run a command that finds nothing of this project, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode in statuses, f"{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy without what earlier builds have left, with the environment's own setuptools."""
    folder = tmp_path_factory.mktemp("build")
    copy = folder / "project"
    leave_out = shutil.ignore_patterns("__pycache__", "runs", "eval")
    for name in ("recoseg", "custom", "bundles"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=leave_out)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    run(sys.executable, "-m", "pip", "wheel", copy, "--no-deps", "--no-build-isolation", "-w", folder, cwd=folder)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of a new environment's programs: the wheel in it, and the packages of this one behind it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    site = Path(
        run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    run(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    return programs


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("data"), "phantom_0", 0, shape=(60, 60, 40), spacing=(4, 4, 4))


def test_it_contains_both_bundles_as_they_are_packed_and_no_package_custom(wheel, tmp_path):
    assert wheel.name == f"recoseg-{custom.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < LARGEST
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"recoseg", f"recoseg-{custom.__version__}.dist-info"}
    assert "recoseg/py.typed" in names
    packed = {name for file in pack_bundles(tmp_path) for name in zipfile.ZipFile(file).namelist()}
    bundles = "recoseg/bundles/"
    assert {name.removeprefix(bundles) for name in names if name.startswith(bundles)} == packed


def test_it_segments_in_a_new_environment_as_a_command_and_as_a_function(installed, study, tmp_path):
    assert run(installed / "recoseg", "--version", cwd=tmp_path) == f"recoseg, version {custom.__version__}\n"
    said = run(*OFFLINE, installed / "recoseg", "segment", study, "-o", "results", "--json", cwd=tmp_path)
    (row,) = json.loads(said)
    assert (row["id"], row["status"]) == ("phantom_0", "done")
    folder = tmp_path / "results" / "phantom_0"
    assert (folder / "phantom_0_report.html").is_file()
    code = f"import json, recoseg; print(json.dumps(recoseg.segment({str(study)!r}).volumes_ml))"
    volumes = json.loads(run(installed / "python", "-c", code, cwd=tmp_path))
    assert volumes == {region: row[f"{region}_ml"] for region in ("wt", "tc", "et")}
    assert volumes["wt"] > 0
    assert [file.name for file in tmp_path.iterdir()] == ["results"]


def test_its_weights_are_those_that_were_built(installed, tmp_path):
    # status 1 where one thread is too few for the machine
    found = json.loads(run(installed / "recoseg", "doctor", "--json", cwd=tmp_path, statuses=(0, 1)))
    assert "site-packages" in found["recoseg"]
    assert not [sentence for sentence in found["wrong"] if "has changed" in sentence or "Install" in sentence]
