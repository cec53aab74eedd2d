"""The scripts for clusters and the Dockerfile, as far as they run without a cluster, a GPU and a container."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
def programs(tmp_path):
    """A folder of programs that note their words, in place of `recoseg` and `torchrun`."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("recoseg", "torchrun"):
        file = folder / name
        file.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" >> "{tmp_path}/{name}_$$"\n')
        file.chmod(0o755)
    return folder


def run(script, *words, programs, expected=0, **variables):
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **variables}
    result = subprocess.run(
        ["bash", EXAMPLES / script, *map(str, words)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == expected, result.stderr
    return result.stdout or result.stderr


def array(first, tasks, step=1, last=None):
    """Return the variables of a Slurm array, without those of one task."""
    values = {"MIN": first, "MAX": first + (tasks - 1) * step if last is None else last, "COUNT": tasks, "STEP": step}
    return {**{f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}, "SLURM_CPUS_PER_TASK": "2"}


@pytest.mark.parametrize(("first", "tasks", "step"), [(0, 3, 1), (1, 3, 1), (0, 12, 1), (0, 3, 2)])
def test_the_tasks_of_an_array_take_every_study_once(programs, tmp_path, first, tasks, step):
    studies = tmp_path / "my studies"
    names = {f"study {number}" for number in range(10)}
    for name in (*names, ".hidden"):
        (studies / name).mkdir(parents=True)
    (studies / "name_mapping.csv").touch()  # as in BraTS
    (tmp_path / "link").symlink_to(studies)
    for task in range(first, first + tasks * step, step):
        variables = {**array(first, tasks, step), "SLURM_ARRAY_TASK_ID": str(task)}
        said = run("slurm_array.sh", tmp_path / "link", "RESULTS", programs=programs, **variables)
        assert bool(said) == (task - first >= len(names))
    taken, places = [], set()
    for file in tmp_path.glob("recoseg_*"):
        command, *words = file.read_text().splitlines()
        end = words.index("-o")
        assert command == "segment" and words[end + 2 :] == ["--skip-existing", "--quiet"]
        taken += [Path(word).name for word in words[:end]]
        places.add(words[end + 1])
    assert sorted(taken) == sorted(names)
    assert len(places) == min(tasks, len(names))


def test_an_array_that_would_leave_studies_out_is_refused(programs, tmp_path):
    variables = {**array(1, 3, last=7), "SLURM_ARRAY_TASK_ID": "3"}
    assert "--array" in run("slurm_array.sh", tmp_path, "RESULTS", programs=programs, expected=2, **variables)
    variables = {**array(0, 3), "SLURM_ARRAY_TASK_ID": "0"}
    said = run("slurm_array.sh", tmp_path / "none", "RESULTS", programs=programs, expected=2, **variables)
    assert "none is not a folder" in said


def test_torchrun_starts_the_same_command_on_each_machine(programs, tmp_path):
    run("torchrun.sh", "STUDIES", "RESULTS", programs=programs, PROCESSES="4", NODES="2", HEAD="node01")
    (file,) = tmp_path.glob("torchrun_*")
    words = file.read_text().splitlines()
    assert words[words.index("-m") :][:5] == ["-m", "recoseg", "segment", "STUDIES", "-o"]
    assert words[words.index("--nnodes") + 1] == "2" and words[words.index("--nproc-per-node") + 1] == "4"
    assert "node01:29500" in words


def test_tables_with_other_columns_are_joined(tmp_path):
    (tmp_path / "a.csv").write_text("id,status,reason,wt_ml\np1,done,,3.5\n")
    (tmp_path / "b.csv").write_text('id,status,reason\np2,failed,"no t1, expected one"\n', encoding="utf-8-sig")
    command = [sys.executable, EXAMPLES / "merge_tables.py", tmp_path / "a.csv", tmp_path / "b.csv"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = list(csv.DictReader(said.splitlines()))
    assert [(row["id"], row["wt_ml"], row["reason"]) for row in rows] == [
        ("p1", "3.5", ""),
        ("p2", "", "no t1, expected one"),
    ]


# ---- the Dockerfile


TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_both_images_run_as_a_user_and_offline():
    for target in ("cpu", "cuda"):
        stage = TEXT.split(f" AS {target}\n")[1].split("\nFROM ")[0]
        (user,) = re.findall(r"^USER (\S+)$", stage, re.MULTILINE)
        assert user not in ("root", "0")
        assert stage.index("USER") > stage.rindex("RUN")
        assert 'ENTRYPOINT ["recoseg"]' in stage
    assert TEXT.count("--network none") == 2  # as the commands at its top are told


def test_what_is_copied_is_there_and_is_not_ignored():
    copied = {name for line in re.findall(r"^COPY ([^-].*)$", TEXT, re.MULTILINE) for name in line.split()[:-1]}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == {"pyproject.toml", "README.md", "LICENSE", "custom", "bundles", "recoseg"} | {
        f"requirements{part}.{kind}" for part in ("", "-no-deps") for kind in ("txt", "lock")
    }
    for name in copied:
        assert (ROOT / name).exists()
        assert any(Path(name).match(pattern) for pattern in kept), name


def test_the_wheel_is_built_of_what_is_copied():
    """Of the same files the test of the wheel builds it."""
    made_of = (ROOT / "tests" / "recoseg" / "test_wheel.py").read_text(encoding="utf-8")
    stage = TEXT.split(" AS wheel\n")[1].split("\nFROM ")[0]
    for name in ("recoseg", "custom", "bundles", "pyproject.toml", "README.md", "LICENSE"):
        assert f'"{name}"' in made_of and name in stage
