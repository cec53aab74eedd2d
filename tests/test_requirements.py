"""The lock files hold the versions that the requirements files pin, for every Python that the README names."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def requirements_in(file: str) -> list[Requirement]:
    """Return the requirements in a file, and in those that it includes, each with the hashes cut off."""
    text = (REPOSITORY / file).read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        line = re.sub(r"\s+(#.*|--hash=.*)$", "", line).strip()
        if line.startswith("-r "):
            found += requirements_in(line.removeprefix("-r ").strip())
        elif line and not line.startswith("#"):
            found.append(Requirement(line))
    return found


def versions(file: str, python: str, system: str = "linux") -> dict[str, set[str]]:
    """Return package -> its pinned versions in a file, for one Python on one system."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "win32": "Windows", "darwin": "Darwin"}[system],
        "platform_machine": "x86_64",
    }
    found: dict[str, set[str]] = {}
    for each in requirements_in(file):
        if each.marker is None or each.marker.evaluate(environment):
            pins = [part.version for part in each.specifier if part.operator == "=="]
            assert len(pins) == len(each.specifier) == 1, f"{each} in {file} is not pinned to one version"
            found.setdefault(canonicalize_name(each.name), set()).update(pins)
    return found


@pytest.mark.parametrize("system", ["linux", "win32", "darwin"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["requirements", "requirements-dev", "requirements-no-deps"])
def test_a_lock_has_what_is_pinned_and_one_version_of_each_package(name, python, system):
    pinned, locked = versions(f"{name}.txt", python, system), versions(f"{name}.lock", python, system)
    assert pinned.items() <= locked.items()
    assert [package for package, found in locked.items() if len(found) > 1] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_both_locks_agree_since_developers_install_both(python):
    assert versions("requirements.lock", python).items() <= versions("requirements-dev.lock", python).items()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-no-deps.lock"])
def test_every_locked_package_has_a_hash(name):
    entries = (REPOSITORY / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert packages
    assert [entry for entry in packages if "--hash=sha256:" not in entry] == []


def test_the_packages_beside_packed_bundles_are_all_that_a_user_installs():
    rules = (REPOSITORY / "Makefile").read_text(encoding="utf-8").split("\n\n")
    (installed,) = (
        set(re.findall(r"requirements[\w-]*\.lock", rule)) for rule in rules if rule.startswith(".venv/user:")
    )
    (listed,) = (set(re.findall(r"requirements[\w-]*\.lock", rule)) for rule in rules if rule.startswith("pack:"))
    assert listed == installed


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no tomllib")
def test_the_wheel_takes_the_pinned_version_of_each_package_or_a_later_one():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = {canonicalize_name(each.name): each.specifier for each in map(Requirement, project["dependencies"])}
    files = ("requirements.txt", "requirements-no-deps.txt")
    pinned = {canonicalize_name(each.name): each for file in files for each in requirements_in(file)}
    assert set(ranges) == set(pinned)
    for name, each in pinned.items():
        (pin,) = (part.version for part in each.specifier)
        assert f">={pin}" in map(str, ranges[name])
        assert pin in ranges[name]


def test_every_python_is_one_that_the_readme_names():
    assert f"Requires Python {PYTHONS[0]} to {PYTHONS[-1]}" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
