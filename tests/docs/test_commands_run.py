"""The commands of the pages run, block after block as a reader would, on phantoms and with small networks.

Bash runs each block as it stands, but for `IN_SHORT`. A block that needs what a test has not, or that another test
runs, says so in a comment above it, which a reader of the rendered page does not see.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Listener
from pathlib import Path

import pytest
import torch

from custom.data.phantom import make_study
from tests.bundles.command_line import SEG, SMALL_NETWORKS, SYNTH, config_of, segmenter_weights, small_bundles
from tests.bundles.warm_python import WarmPython
from tests.docs.blocks import Block, blocks_of
from tests.docs.test_docs import CARDS, ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "getting-started.md",
    *sorted(ROOT.glob("docs/how-to/*.md")),
    *sorted(ROOT.glob("docs/explanation/*.md")),
    *CARDS,
]
RUN = [page for page in PAGES if any(not block.mark for block in blocks_of(page))]

# What is other than on the page: no passphrase is asked for, one process, seconds in place of hours.
IN_SHORT = {
    " -aes256": "",
    "--jobs 4": "--jobs 1",
    "--workers 2": "--workers 1",
    "--seconds 3600": "--seconds 1",
    "RESULTS/ID": "RESULTS/STUDY",
}
# Settings of the copies of both bundles.
SMALL = {
    "train": {"max_epochs": 1, "val_interval": 1, "slices_per_epoch": 16},
    "inference": {"planes": ["axial"]},
}
SIZE = {"shape": (60, 60, 40), "spacing": (4, 4, 4)}
PAGE_S = 300

CLIENT = """#!{python} -IS
import os, sys
if os.path.basename(sys.argv[0]) == "python" and sys.argv[1] != "-m":
    os.execv({own!r}, [{own!r}, *sys.argv[1:]])
from multiprocessing.connection import Client
with Client({address!r}) as server:
    server.send([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd()])
    status, out, err = server.recv()
sys.stdout.write(out), sys.stderr.write(err)
sys.exit(status)
"""


def names_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# ---- every block is run, or says why not


@pytest.mark.parametrize("page", PAGES, ids=names_of)
def test_a_test_that_runs_a_block_is_there_and_has_its_commands(page):
    for block in blocks_of(page):
        if block.mark == "run by":
            files = [ROOT / name for name in block.reason.split(", ")]
            assert all(file.is_file() for file in files), f"{page.name}:{block.line}"
            text = "".join(file.read_text(encoding="utf-8") for file in files)
            missing = [word for word in tells(block) if word not in text]
            assert not missing, f"{page.name}:{block.line}: {block.reason} has no {missing}"


def tells(block: Block) -> set[str]:
    """Return the words that say what a block does: verbs, configs, variants and scripts."""
    verbs = set(re.findall(r"(?:^|\s)(?:recoseg|custom|openssl|make|nvflare|model_signing) ([a-z][\w-]*)", block.text))
    verbs |= set(re.findall(r"monai\.bundle (?!run\b)(\w+)", block.text))
    return verbs | set(re.findall(r"(?:configs/|variants/|benchmarks/|examples/)(\w+)\.(?:json|py|sh)", block.text))


@pytest.mark.parametrize("page", PAGES, ids=names_of)
def test_no_block_is_marked_for_nothing(page):
    assert all(block.reason for block in blocks_of(page) if block.mark)


# ---- they run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project as a reader has it, with small networks, and data of the names that the pages use."""
    project = tmp_path_factory.mktemp("made") / "project"
    project.mkdir()
    for name in ("custom", "tests", "benchmarks", "docs"):
        (project / name).symlink_to(ROOT / name)
    (project / "recoseg").mkdir()
    for file in (ROOT / "recoseg").glob("*.py"):
        shutil.copy(file, project / "recoseg")
    small_bundles(project / "bundles")
    shutil.copytree(ROOT / "bundles" / "recoseg_portable", project / "bundles" / "recoseg_portable")
    (project / "recoseg" / "bundles").symlink_to(project / "bundles")
    for bundle in (SEG, SYNTH):
        shutil.rmtree(project / "bundles" / bundle / "custom")
        (project / "bundles" / bundle / "custom").symlink_to("../../custom")
        for name, settings in SMALL.items():
            file = project / "bundles" / bundle / "configs" / f"{name}.json"
            config = json.loads(file.read_text())
            file.write_text(
                json.dumps({**config, **{key: settings[key] for key in settings if key in config}}, indent=4)
            )
    bundle = project / "bundles" / SEG
    variant = config_of(bundle, "variants/whole_tumour")
    variant["network_def"].update(SMALL_NETWORKS[SEG])
    (bundle / "configs" / "variants" / "whole_tumour.json").write_text(json.dumps(variant, indent=4))
    torch.save(segmenter_weights(bundle, **variant), bundle / "models" / "whole_tumour.pt")
    for name, network in (("variants/one_network", "network_def"), ("inference", "fine_network")):
        config = config_of(bundle, name)
        config[network].update(SMALL_NETWORKS[SEG])
        (bundle / "configs" / f"{name}.json").write_text(json.dumps(config, indent=4))
    make_study(project, "STUDY", 0, **SIZE)
    for seed, name in enumerate(("BEFORE", "AFTER")):
        make_study(project / "STUDIES", name, seed, **SIZE)
        (project / name).symlink_to(f"STUDIES/{name}")
    for seed in range(5):
        make_study(project / "BraTS2020_TrainingData", f"phantom_{seed}", seed, **SIZE)
    (project / "BRATS").symlink_to("BraTS2020_TrainingData")
    for bundle in (SEG, SYNTH):
        for name in ("STUDY", "BRATS"):
            (project / "bundles" / bundle / name).symlink_to(project / name)
    return project


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `python` and `recoseg`, which run in processes that have imported the packages before."""
    folder = tmp_path_factory.mktemp("programs")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    warm = WarmPython({**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
    listener = Listener(str(folder / "socket"))
    for name in ("python", "recoseg"):
        file = folder / name
        file.write_text(
            CLIENT.format(python=shutil.which("python3"), own=sys.executable, address=str(folder / "socket"))
        )
        file.chmod(0o755)

    def serve() -> None:
        while True:
            with listener.accept() as connection:
                program, words, place = connection.recv()
                if program == "end":
                    return
                done = warm.run(words if program == "python" else ["-m", "recoseg", *words], Path(place), PAGE_S)
                connection.send((done.returncode, done.stdout, done.stderr))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield folder
    subprocess.run([folder / "python"], executable=shutil.which("true"), check=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=names_of)
def test_the_commands_of_a_page_run(page, made, programs, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(made, project, symlinks=True)
    (project / ".venv").mkdir()
    (project / ".venv" / "bin").symlink_to(programs)
    place = project / page.parents[1].relative_to(ROOT) if page in CARDS else project
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    script = ["set -euo pipefail"]
    for block in blocks_of(page):
        if not block.mark:
            text = block.text
            for long, short in IN_SHORT.items():
                text = text.replace(long, short)
            script += [f"echo '== line {block.line}' >&2", text]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PAGE_S * 2,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
