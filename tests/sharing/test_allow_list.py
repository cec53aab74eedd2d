"""The lists hold what the configs use, and no more: whatever nobody needs is one way less to do harm."""

from __future__ import annotations

import ast
import inspect
import json
import pydoc
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from monai.bundle.config_item import ComponentLocator

from custom.sharing import allow_list, check_config
from tests.sharing.signed_bundles import components_in

REPOSITORY = Path(__file__).resolve().parents[2]
# Arguments that a key such as `a#b#name` may set in a component for which a config never sets them: each was looked at,
# and none does more than its name says.
HARMLESS = {
    *("act", "additional_metrics", "allow_missing_keys", "allow_smaller", "amp", "batch_size", "consistency", "device"),
    *("epoch_level", "fused", "kernel_size", "keys", "label_key", "mask", "mode", "model", "name", "postprocessing"),
    *("margin", "schedule", "spatial_dims", "spatial_size", "start", "studies"),
    # numbers of an average, a network and an optimizer, and parts of MONAI's evaluator
    *("decollate", "key_val_metric", "modalities", "momentum", "momentum_warmup", "norm_num_groups", "prepare_batch"),
    *("warmup_iters", "weight_decay"),
}


@cache
def configs(earlier: bool) -> list[dict]:
    if earlier:
        files = (Path(__file__).parent / "earlier_releases").glob("*.json")
        return [config for file in files for config in json.loads(file.read_text()).values()]
    files = [
        file for name in allow_list.BUNDLES for file in (REPOSITORY / "bundles" / name / "configs").rglob("*.json")
    ]
    return [json.loads(file.read_text()) for file in files]


def used(earlier: bool) -> dict[str, set[str]]:
    """Return component -> arguments, of custom/ by its last name, in all configs."""
    components: dict[str, set[str]] = {}
    for config in configs(earlier):
        for target, component in components_in(config):
            name = target.rpartition(".")[2] if target.startswith("custom.") else target
            components.setdefault(name, set()).update(component.keys() - {"_target_", "_mode_"})
    return components


def path_ends(earlier: bool) -> set[str]:
    return {key.rpartition("#")[2] for config in configs(earlier) for key in config if "#" in key}


def texts(value: object) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(texts, value.values()))
    if isinstance(value, list):
        return set().union(*map(texts, value))
    return {value} if isinstance(value, str) else set()


def listed(*names: str) -> dict[str, set[str]]:
    return {
        component: set(arguments.split())
        for name in names
        for component, arguments in getattr(allow_list, name).items()
    }


def own_modules() -> Counter[str]:
    """Return how many modules of custom/ define each public class and function."""
    trees = [ast.parse(file.read_bytes()) for file in (REPOSITORY / "custom").rglob("*.py")]
    return Counter(
        node.name for tree in trees for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))
    )


def test_components_are_those_that_a_config_builds():
    current = listed("COMPONENTS", "OWN_COMPONENTS")
    uses = used(earlier=False)
    assert current.keys() == uses.keys()
    by_path = path_ends(earlier=False)
    assert {
        name: current[name] - uses[name] - by_path for name in current if current[name] - uses[name] - by_path
    } == {}


def test_earlier_components_are_those_that_only_an_earlier_config_builds():
    current = listed("COMPONENTS", "OWN_COMPONENTS")
    uses = used(earlier=True)
    for name, arguments in listed("EARLIER_COMPONENTS", "EARLIER_OWN_COMPONENTS").items():
        assert arguments <= uses[name]
        assert name not in current or (arguments and not arguments & current[name])


def test_expressions_and_statements_are_those_that_a_config_evaluates():
    now = {text for config in configs(earlier=False) for text in texts(config) if text.startswith("$")}
    before = {text for config in configs(earlier=True) for text in texts(config) if text.startswith("$")}
    form = check_config._form
    forms = {form(text) for text in now - set(allow_list.IMPORTS)}
    assert {text for text in allow_list.EXPRESSIONS if form(text) not in forms} == set()
    assert set(allow_list.IMPORTS) <= now
    forms_before = {form(text) for text in before - set(allow_list.IMPORTS)}
    assert {text for text in allow_list.EARLIER_EXPRESSIONS if form(text) not in forms_before - forms} == set()


def handed_on(earlier: bool) -> set[str]:
    return {
        target.rpartition(".")[2] if target.startswith("custom.") else target
        for config in configs(earlier)
        for target, component in components_in(config)
        if component.get("_mode_") == "callable"
    }


def test_functions_are_those_that_a_config_hands_on():
    assert handed_on(earlier=False) == allow_list.FUNCTIONS
    assert path_ends(earlier=False) >= allow_list.SECTIONS


def test_earlier_functions_are_those_that_only_an_earlier_config_hands_on():
    assert handed_on(earlier=True) - handed_on(earlier=False) == allow_list.EARLIER_FUNCTIONS


def test_components_of_custom_are_public_parts_of_one_module_and_no_verbs():
    modules = own_modules()
    assert {name: modules[name] for name in allow_list.OWN_COMPONENTS if modules[name] != 1} == {}
    assert not [name for name in allow_list.OWN_COMPONENTS if name.startswith("_")]
    for room in ("sharing", "export", "federated", "__main__.py"):
        place = REPOSITORY / "custom" / room
        files = [place] if place.is_file() else list(place.glob("*.py"))
        defined = {name for file in files for name in check_config._defined(file)}
        assert defined and not defined & allow_list.OWN_COMPONENTS.keys()


def test_every_short_name_is_one_of_monai():
    locate = ComponentLocator().get_component_module_name
    assert [name for name in check_config.ALLOWED if "." not in name and locate(name) is None] == []


def test_arguments_that_could_be_set_in_another_component_were_looked_at():
    locate = ComponentLocator().get_component_module_name
    modules = {
        name: f"custom.{file.parent.name}.{file.stem}"
        for file in (REPOSITORY / "custom").glob("*/*.py")
        for name in check_config._defined(file)
    }
    for name, allowed in (check_config.ALLOWED | check_config.OWN_ALLOWED).items():
        if name in allow_list.EARLIER_OWN_COMPONENTS and name not in modules:
            continue  # only the bundles of earlier versions define it
        module = modules.get(name) if name in check_config.OWN_ALLOWED else locate(name)
        path = f"{module[0] if isinstance(module, list) else module}.{name}" if module else name
        parameters = inspect.signature(pydoc.locate(path)).parameters.keys()
        assert (parameters & check_config.ARGUMENTS) - allowed <= HARMLESS, name


@pytest.mark.parametrize(
    "file", ["models/model.ts", "custom/data/a.so", "docs/a.html", "docs/a.png", "evil.json", "configs/a/b.json"]
)
def test_other_files_have_no_place_in_a_bundle(file):
    assert not allow_list.FILES.fullmatch(file)
