"""The reference of all settings is complete, and is what its script makes of the configs as they are."""

from __future__ import annotations

import pytest

from docs.reference import make_reference
from docs.reference.make_reference import COMMANDS, MEANINGS, PAGE, VARIANTS, defaults, page, page_of_commands, problems

COMMAND = "PYTHONPATH=. .venv/bin/python docs/reference/make_reference.py"


def test_every_key_and_variant_has_a_meaning_and_every_meaning_a_key():
    assert not problems(), f"Edit docs/reference/make_reference.py, then run {COMMAND}"


def test_the_page_is_what_the_script_makes():
    assert PAGE.read_text(encoding="utf-8") == page(), f"Run {COMMAND}"


def test_the_commands_are_shown_as_their_help_does():
    assert COMMANDS.read_text(encoding="utf-8") == page_of_commands(), f"Run {COMMAND}"


@pytest.fixture
def configs(monkeypatch):
    """The configs of two bundles as a dictionary that a test fills, in place of the files."""
    content = {(bundle, config): {} for bundle in make_reference.BUNDLES for config in make_reference.CONFIGS}
    monkeypatch.setattr(make_reference, "read", lambda bundle, config: content[bundle, config])
    monkeypatch.setattr(make_reference, "variants_of", lambda bundle: list(VARIANTS[bundle]))
    return content


def test_a_key_without_a_meaning_is_named(configs):
    configs["recoseg_seg", "inference"]["new_key"] = 1
    assert "The key new_key has no meaning in MEANINGS." in problems()


def test_a_meaning_without_a_key_is_named(configs):
    for config in configs.values():
        config |= {key: {"steps": 1, "eta": 0} for group in MEANINGS.values() for key in group if "#" not in key}
    assert problems() == []
    for config in configs.values():
        del config["threshold"], config["sampler"]["eta"]
    assert problems() == [
        "MEANINGS explains the key sampler#eta, which no config has.",
        "MEANINGS explains the key threshold, which no config has.",
    ]


def test_a_variant_without_a_meaning_is_named(configs, monkeypatch):
    monkeypatch.setattr(make_reference, "variants_of", lambda bundle: [*VARIANTS[bundle], "new"])
    assert "The variant new of recoseg_synth has no meaning in VARIANTS." in problems()


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ({"train": 1, "evaluate": 1, "inference": 1}, "`1`"),
        ({"train": False, "evaluate": True, "inference": True}, "train: `false`<br>evaluate, inference: `true`"),
        ({"train": None}, "train: `null`"),
        ({"inference": ""}, 'inference: `""`'),
        ({"evaluate": {"_target_": "UNet", "spatial_dims": 2}}, "evaluate: `UNet`"),
        ({"train": {"studies": {}}}, "train: see the file"),
        ({}, "-"),
    ],
)
def test_a_default_is_shown_with_its_configs(configs, values, cell):
    for config, value in values.items():
        configs["recoseg_seg", config]["key"] = value
    assert defaults("recoseg_seg", "key") == cell
    assert defaults("recoseg_synth", "key") == "-"
