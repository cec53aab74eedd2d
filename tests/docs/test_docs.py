"""What the documentation says can be followed: its links lead somewhere, and its commands have options that exist."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from custom.common.atomic_files import sha256
from recoseg.command_line import recoseg
from tests.docs.blocks import blocks_of

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted(ROOT.glob("bundles/*/docs/README.md"))
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS, *CARDS]
OF_MONAI = {
    "help",
    "config_file",
    "bundle_root",
    "meta_file",
    "logging_file",
    "tracking",
}  # options of `monai.bundle run`

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links that do not lead to another site."""
    text = re.sub(r"`[^`\n]*`(?!\])", "", prose(page))
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: *(\S+)", text, flags=re.MULTILINE)
    return [target for target in found if not re.match(r"\w+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[list[str]]:
    """Return the words of each command in a page's blocks of shell commands."""
    found: list[list[str]] = []
    for block in blocks_of(page):
        lines = re.sub(r"\s# .*$", "", block.text.replace("\\\n", " "), flags=re.MULTILINE)
        lines = re.sub(r"\"[^\"]*\"|'[^']*'", lambda quoted: quoted[0].replace("\n", " "), lines)
        words = shlex.split(lines.replace("\n", " ; ").replace("; do ", " ; do "))
        found.append([])
        for word in words:
            if word == ";":
                found.append([])
            else:
                found[-1].append(word.rstrip(";"))
    return [command for command in found if command]


def after(command: list[str], *words: str) -> list[str] | None:
    """Return what follows ``words`` in a command, or None where they are not in it."""
    size = len(words)
    starts = [i for i in range(len(command)) if tuple(command[i : i + size]) == words]
    return command[starts[0] + size :] if starts else None


def options(words: list[str]) -> list[str]:
    return [word[2:].partition("=")[0] for word in words if word.startswith("--")]


def has(configs: list[dict], option: str) -> bool:
    """Tell whether an option is a key or an entry of one of the configs, or an argument of a component in them."""
    *path, last = option.split("#")
    for config in configs:
        if option in config:
            return True
        for part in path:
            config = config.get(part) if isinstance(config, dict) else None
        if isinstance(config, dict) and (last in config or (path and "_target_" in config)):
            return True
    return False


# ---- links


@pages
def test_links_lead_to_files_and_headings_that_are_there(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} does not exist"
        assert file.is_relative_to(ROOT), f"{target} leads out of the project"
        if anchor:
            assert anchor in anchors(file), f"{target} has no such heading"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parts[-3])
def test_a_model_card_links_to_nothing_outside_its_bundle(card):
    """A bundle is packed without the rest of the project."""
    assert all((card.parent / target).resolve().is_relative_to(card.parents[1]) for target in links(card))


def test_the_index_leads_to_every_page():
    index = ROOT / "docs" / "README.md"
    reached = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    assert {*PAGES} - {index, ROOT / "README.md"} <= reached


@pages
def test_files_of_the_project_that_are_named_are_there(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])(?:benchmarks|custom|tests|docs)/[\w/-]+\.(?:py|json|md|png|txt)\b", text))
    folders = {ROOT, page.parents[1]}  # a model card names files of its own bundle, too
    assert not [name for name in named if not any((folder / name).exists() for folder in folders)]


# ---- commands


@pages
def test_bundle_commands_have_configs_and_options_that_are_there(page):
    # the commands of a model card are called in its bundle's folder; some of other pages where bundles were unpacked
    folders = [page.parents[1], ROOT] if page in CARDS else [ROOT, ROOT / "bundles"]
    for command in commands(page):
        words = after(command, "monai.bundle", "run")
        if words is None:
            continue
        value = words[words.index("--config_file") + 1]
        names = ast.literal_eval(value) if value.startswith("[") else [value]
        files = [next((folder / name for folder in folders if (folder / name).is_file()), None) for name in names]
        assert all(files), f"{value} does not exist"
        configs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        unknown = [option for option in options(words) if option not in OF_MONAI and not has(configs, option)]
        assert not unknown, f"{value} has no {unknown}"


@pages
def test_the_project_s_own_verbs_have_the_options_that_are_told(page):
    module = ast.parse((ROOT / "custom" / "__main__.py").read_text(encoding="utf-8"))
    functions = {node.name: node.args for node in module.body if isinstance(node, ast.FunctionDef)}
    verbs = {name: {each.arg for each in arguments.args} for name, arguments in functions.items()}
    train = [json.loads(file.read_text()) for file in ROOT.glob("bundles/recoseg_s*/configs/train.json")]
    for command in commands(page):
        words = after(command, "-m", "custom")
        if words is not None:
            assert words[0] in verbs, f"{words[0]} is no verb"
            unknown = {*options(words)} - verbs[words[0]]
            if functions[words[0]].kwarg is not None:  # which go to train.json
                unknown = {option for option in unknown if not has(train, option)}
            assert not unknown, f"{words} has an unknown option"


@pages
def test_the_commands_of_recoseg_are_there_with_the_options_that_are_told(page):
    for command in commands(page):
        if command[0] != "recoseg":
            continue
        words = command[1 : command.index("--")] if "--" in command else command[1:]
        known = {option for each in recoseg.commands[words[0]].params for option in (*each.opts, *each.secondary_opts)}
        assert not {word for word in words if word.startswith("-")} - {*known, "--help"}, command


@pages
def test_what_make_is_told_is_in_the_makefile(page):
    rules = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for command in commands(page):
        if command[0] == "make":
            assert not [word for word in command[1:] if "=" not in word and word not in rules], command


@pages
def test_no_command_writes_over_the_weights_of_the_project(page):
    for command in commands(page):
        assert command[0] not in ("cp", "mv") or not re.search(r"(^|/)models(/model\.pt)?/?$", command[-1]), command


@pages
def test_scripts_that_are_told_to_run_are_there(page):
    for command in commands(page):
        scripts = [word for word in command if re.match(r"(benchmarks|tests|docs)/.*\.(py|sh)$", word)]
        assert all((ROOT / script).is_file() for script in scripts), command


@pytest.mark.parametrize("name", ["infer", "train"])
def test_options_that_the_text_names_are_in_a_config(name):
    configs = [json.loads(file.read_text()) for file in ROOT.glob("bundles/recoseg_s*/configs/**/*.json")]
    named = re.findall(r"`--([\w#-]+)", prose(ROOT / "docs" / "how-to" / f"{name}.md"))
    own = {
        option[2:]
        for each in recoseg.commands.values()
        for param in each.params
        for option in (*param.opts, *param.secondary_opts)
    }
    assert not [option for option in named if option not in OF_MONAI | own and not has(configs, option)]


# ---- the words themselves


def test_the_readme_is_short_and_its_lines_too():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 125
    assert not [line for line in lines if len(line) > 120]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "docs" / "getting-started.md", *sorted(ROOT.glob("docs/explanation/*.md"))]
)
def test_metrics_in_the_text_are_those_of_the_results(page):
    """With new weights results.md is updated; the numbers that other pages repeat must be updated too."""
    metrics = re.findall(r"(?<![\d.])\d\.\d{3,4}(?![\d.])", prose(page))
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert not [metric for metric in metrics if metric not in results]


def test_the_volumes_of_the_demo_are_those_of_the_shipped_weights():
    """They need a minute to be computed; that the page names other weights shows that they are to be printed again."""
    page = (ROOT / "docs" / "how-to" / "python.md").read_text()
    named = re.findall(r"SHA-256 begin with `(\w{8})` and `(\w{8})`", page)
    models = ROOT / "bundles" / "recoseg_seg" / "models"
    assert named == [tuple(sha256(models / name)[:8] for name in ("model.pt", "fine.pt"))]
