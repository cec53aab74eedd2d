"""Expressions, components and names in configs: what a bundle needs passes, what could run anything else does not."""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.handlers import TensorBoardStatsHandler

from custom.sharing.allow_list import BUNDLES
from custom.sharing.check_config import check_config, check_expression
from tests.sharing.search import search, watched
from tests.sharing.signed_bundles import components_in
from tests.studies import bad_input

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = [
    (bundle, file.relative_to(REPOSITORY / "bundles" / bundle).as_posix())
    for bundle in BUNDLES
    for file in sorted((REPOSITORY / "bundles" / bundle / "configs").rglob("*.json"))
]
# configs of every version that was handed out, as they were
EARLIER = sorted((Path(__file__).parent / "earlier_releases").glob("*.json"))
OWN = "custom.synthesis.sampler"


def write(folder: Path, config: object) -> Path:
    """Write configs/train.json of a bundle with one module of its own, and return the bundle's folder."""
    (folder / "configs").mkdir()
    (folder / "configs" / "train.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / "custom" / "synthesis").mkdir(parents=True)
    (folder / "custom" / "synthesis" / "sampler.py").write_text(
        "import os\nfrom pathlib import Path\nfrom elsewhere import Residuald\n\n"
        "def sample(): ...\n\ndef thing(): ...\n\nclass LoadStudyd: ...\n\nclass SynthesizeT1ced: ...\n"
    )
    return folder


def refused(folder: Path, config: object, *parts: object) -> None:
    with bad_input("configs/train.json", *map(str, parts)):
        check_config(write(folder, config), "configs/train.json")


@pytest.mark.parametrize(("bundle", "file"), CONFIGS)
def test_every_config_of_the_project_passes(bundle, file):
    """If this fails for a new name, read custom/sharing/allow_list.py before adding the name to it."""
    config = check_config(REPOSITORY / "bundles" / bundle, file)
    assert config == json.loads((REPOSITORY / "bundles" / bundle / file).read_text())


@pytest.mark.parametrize("release", EARLIER, ids=lambda file: file.stem)
def test_every_config_of_earlier_versions_passes(tmp_path, release):
    configs = json.loads(release.read_text())
    for file, config in configs.items():
        bundle = tmp_path / file.partition("/")[0]
        for target, _ in components_in(config):
            if target.startswith("custom."):
                module = bundle / f"{target.rpartition('.')[0].replace('.', '/')}.py"
                module.parent.mkdir(parents=True, exist_ok=True)
                with module.open("a") as code:
                    code.write(f"def {target.rpartition('.')[2]}(): ...\n")
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(json.dumps(config))
        check_config(bundle, file.partition("/")[2])


# ---- expressions


@pytest.mark.parametrize(
    "expression",
    [
        "$@a#b.run()",
        "$@bundle_root  +  '/eval'",
        "$@a#synth_bundle_root + '/models/model.pt'",
        "$(torch.device(\"cuda\" if torch.cuda.is_available() else 'cpu'))",
        "$@a#b#handlers[:-3 if dist.get_rank() > 0 else None]",
    ],
)
def test_an_expression_of_the_list_may_be_spaced_otherwise_and_refer_to_other_sections(expression):
    check_expression(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "$__import__('os').system('x')",
        "$eval('1')",
        "$getattr(torch, 'load')",
        "$os.system('x')",
        "$os.environ['AWS_SECRET_ACCESS_KEY']",
        "$torch.load('x')",
        "$torch.hub.load('x', 'y')",
        "$monai.utils.run_cmd(['x'])",
        "$().__class__.__base__.__subclasses__()",
        "$@network.__class__",
        "$'{0.__class__}'.format(@network)",
        "$f'{@network}'",
        "$[x for x in @a]",
        "$lambda x: x()",
        "$@run('x')",
        "$__local_refs",
        "$__builtins__",
        # MONAI fills in references inside a string as well, and its quotes end the string
        "$'@a' + eval('1') + '@a'",
        "$1; 2",
        "$import os, sys",
        "$import os as torch",
        "$import torch\n__import__('os').system('x')",
        "$dist.init_process_group('gloo', 'tcp://192.0.2.1:80')",
        "$@_meta_#homepage + '/eval'",
        "$" + "(" * 300 + ")" * 300,
        "$" + "1 + " * 400 + "1",
        "$" + "-" * 498 + "1",
        "$[0] * 999999999999",
        "$2 ** 999999999999",
        "$",
        "$ ",
        # text that is made when it runs
        "$str(b'$evil', 'ascii')",
        "$b'%c' % 36",
        "$'%s' % @a",
        "$@text[1:]",
        "$@text[1]",
        "$@text[: -3 if dist.get_rank() > 0 else None]",
        "$'a' 'b'",
        "$'/' * 2",
        "$@a * 2",
        "$@a + @b",
        "$'ftp:' + @a",
        "$@a + '//192.0.2.1'",
        "$''.join(@parts)",
        "$@a.replace('a', 'b')",
        "$@a.lower()",
        "$str(@a)",
        "$str(@a).lower()",
        "$chr(36)",
        "$3j",
        "$...",
        # one like those on the list, but for something
        "$@a.to(@b, @c)",
        "$@a.run('x')",
        "$@a.run",
        "$len('text')",
        "$@bundle_root + '/eval/../../../etc'",
        # with a section of "~" or "", a path outside the bundle
        "$@folder + '/eval'",
        "$@a#b + '/models/model.pt'",
        "$monai.handlers.from_engine(['loss'], first=@a)",
        "$monai.utils.set_determinism(seed=@seed, use_deterministic_algorithms=@a)",
        "$torch.device('cuda:' + os.environ['HOME'] if torch.cuda.is_available() else 'cpu')",
        "$lambda output: @evil['loss'].item()",
    ],
)
def test_any_other_expression_is_refused_and_named(expression):
    with bad_input(f"{expression!r}" if len(expression) <= 500 else "at most 500"):
        check_expression(expression)


# ---- components


@pytest.mark.parametrize(
    "component",
    [
        {"_target_": "UNet", "spatial_dims": 2},
        {"_target_": "torch.optim.Adam", "lr": 1},
        {"_target_": f"{OWN}.LoadStudyd"},
        {"_target_": f"{OWN}.sample", "_mode_": "callable", "steps": 2},
        {"_target_": f"{OWN}.sample", "_mode_": "default"},
    ],
)
def test_a_component_on_the_list_is_accepted(tmp_path, component):
    check_config(write(tmp_path, {"a": [component]}), "configs/train.json")


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "run_cmd", "monai.utils.run_cmd", "torch.load", "torch.hub.load", "Lambda"),
        *("monai.networks.nets.UNet", "@name", "$os.system", "UNet ", "", None, ["UNet"], {"a": 1}, 3),
        # of custom/: what is not on the list, not public, not there, or not its own
        *(f"{OWN}.thing", f"{OWN}._sample", f"{OWN}.os.system", f"{OWN}.Path", f"{OWN}.Residuald", OWN),
        *("custom.sharing.signing.sign_folder", "custom.sharing.bundle_zip.write_zip", "custom.__main__.main"),
        *("custom.missing.sample", "custom.sample", "custom..sampler.sample", f"{OWN}.sample.__globals__"),
        *("sample", "custom.synthesis.sampler.SAMPLE", "other.synthesis.sampler.sample"),
    ],
)
def test_any_other_target_is_refused_and_named(tmp_path, target):
    refused(tmp_path, {"a": [{"_target_": target}]}, "_target_", repr(target))


@pytest.mark.parametrize(
    ("component", "part"),
    [
        ({"_target_": "SupervisedTrainer", "compile": True}, "compile"),
        ({"_target_": "SupervisedTrainer", "compile_kwargs": {"options": {"cpp.cxx": "x"}}}, "compile_kwargs"),
        ({"_target_": "Activationsd", "other": "@a"}, "other"),
        ({"_target_": "UNet", "_debug_": True}, "_debug_"),
        ({"_target_": "UNet", "_requires_": "@a"}, "_requires_"),
        ({"_target_": "UNet", "_disabled_": True}, "_disabled_"),
        ({"_target_": "UNet", "_desc_": "x"}, "_desc_"),
        ({"_target_": "UNet", "_mode_": "debug"}, "debug"),
        ({"_target_": "UNet", "_mode_": "@mode"}, "@mode"),
        # others would call it, with arguments that are not in the config
        ({"_target_": "CacheDataset", "_mode_": "callable"}, "callable"),
        ({"_target_": f"{OWN}.SynthesizeT1ced", "_mode_": "callable"}, "callable"),
        ({"_mode_": "callable"}, "_target_ None"),
    ],
)
def test_other_arguments_and_modes_are_refused(tmp_path, component, part):
    refused(tmp_path, {"a": component}, part)


@pytest.mark.slow
def test_torch_would_have_started_the_compiler_that_a_config_names(tmp_path):
    """Why the arguments are listed too: MONAI's trainer and evaluator hand `compile_kwargs` to `torch.compile`."""
    compiler, canary = tmp_path / "compiler", tmp_path / "ran"
    compiler.write_text(f"#!/bin/sh\ntouch {canary}\n")
    compiler.chmod(0o755)
    with pytest.raises(Exception, match=r"."):
        torch.compile(torch.nn.Linear(1, 1), options={"cpp.cxx": str(compiler)})(torch.ones(1, 1))
    assert canary.exists()


# ---- keys, which set values in sections of other files too


@pytest.mark.parametrize(
    "config",
    [
        {"network_def#out_channels": 3},
        {"train#trainer#prepare_batch#teacher": "@ema"},
        {"train#slices": {"_target_": "Dataset", "data": "@a"}},
        {"+preprocessing#transforms": ["@a"]},
        {"a_setting": {"of": ["mine", 3, None, 0.5, True]}},
        {"synthesis": {"_target_": f"{OWN}.SynthesizeT1ced", "synth_bundle_root": "@synth_bundle_root"}},
    ],
)
def test_overlays_may_set_arguments_and_extend_lists(tmp_path, config):
    check_config(write(tmp_path, config), "configs/train.json")


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"a#b#_target_": "UNet"}, "a#b#_target_"),
        ({"a#_mode_": "callable"}, "a#_mode_"),
        ({"+_target_": "UNet"}, "+_target_"),
        ({"+a": {"_target_": "UNet"}}, "+a"),
        ({"a": {"+b#_requires_": ["@c"]}}, "_requires_"),
        ({"train#trainer#compile": True}, "train#trainer#compile"),
        ({"train::trainer::max_epochs": 1}, "train::trainer"),
        ({"a": {"b#compile_kwargs": {}}}, "b#compile_kwargs"),
        ({"_meta_": {"a": 1}}, "_meta_"),
        ({"a b": 1}, "a b"),
        ({"": 1}, "key ''"),
        ({"x'] or eval('1') or ['x": {"a": "$@#b", "b": 1}}, "eval"),
        ({"\x1b[2K": 1}, "\\x1b"),
    ],
)
def test_keys_that_could_change_a_component_are_refused(tmp_path, config, part):
    refused(tmp_path, config, part)


# ---- folders from which code or another config would come


@pytest.mark.parametrize(
    "config",
    [
        {"synth_bundle_root": "/tmp/evil"},
        {"synth_bundle_root": "@other", "other": "/tmp/evil"},
        {"synth_bundle_root": "$@bundle_root + '/eval'"},
        {"synthesis": {"_target_": f"{OWN}.SynthesizeT1ced", "synth_bundle_root": "/tmp/evil"}},
        {"synthesis#synth_bundle_root": "../evil"},
        {"+synth_bundle_root": ["/tmp/evil"]},
        {"bundle_root": "/tmp/evil/x"},
        {"a": {"bundle_root": "/tmp/evil/x"}},
        {"bundle_root": ["."]},
    ],
)
def test_no_root_but_the_bundle_s_own_and_its_sibling_s_is_accepted(tmp_path, config):
    refused(tmp_path, config, "bundle_root", "@bundle_root")


@pytest.mark.parametrize("value", [["$evil"], {"a": "b"}, "@other", "$@bundle_root + '/eval'", "other", 2])
def test_a_setting_that_an_expression_makes_a_text_of_has_one_of_its_known_values(tmp_path, value):
    refused(tmp_path, {"raw": value, "settings": "$str(@raw).lower()"}, "raw", "'auto' or 'true'")


# ---- text


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"a": {"b": [1, ["$open('x')"]]}}, "open"),
        ({"imports": ["$import subprocess"]}, "import subprocess"),
        ({"imports": ["$from os import system as str"]}, "from os import"),
        ({"a": "%/tmp/evil.json::a"}, "%/tmp/evil.json"),
        ({"a": "%../evil.json"}, "%../evil.json"),
        ({"a": "%b"}, "%b"),
        ({"a": "./$open('x')"}, "./$open"),
        ({"a": "x@#b"}, "x@#b"),
        ({"a": "@"}, "reference"),
        ({"a": "@#b"}, "reference"),
        ({"a": "@a.b"}, "reference"),
        ({"output_dir": "@_meta_#homepage"}, "_meta_"),
        ({"output_dir": "ftp://192.0.2.1/x"}, "signs"),
        ({"output_dir": "ftp:\u002f/192.0.2.1"}, "signs"),
        ({"a": "ftp:"}, "signs"),
        ({"output_dir": "//192.0.2.1/share"}, "outside the bundle"),
        ({"output_dir": "\\\\192.0.2.1\\share"}, "signs"),
        ({"a": "\\"}, "signs"),
        ({"a": "/"}, "outside the bundle"),
        ({"output_dir": "/etc"}, "outside the bundle"),
        ({"output_dir": " /etc"}, "outside the bundle"),
        ({"output_dir": "\\Windows"}, "signs"),
        ({"output_dir": "./C:/Windows"}, "signs"),
        ({"output_dir": "~/.ssh"}, "signs"),
        ({"output_dir": "./~/x"}, "signs"),  # pathlib drops the ./
        ({"output_dir": "x/. ./y"}, "outside the bundle"),
        ({"output_dir": ".."}, "outside the bundle"),
        ({"output_dir": "../.venv/lib"}, "outside the bundle"),
        ({"output_dir": "results/../../.ssh"}, "outside the bundle"),
        ({"output_dir": "results\\.."}, "signs"),
        ({"output_dir": ".venv/lib/python3.11/site-packages"}, "outside the bundle"),
        ({"output_dir": "x/.git"}, "outside the bundle"),
        ({"data": [{"id": "../../x", "status": "done"}]}, "outside the bundle"),
        ({"data": [{"id": "x", "image": {"flair": "/home/x/flair.nii.gz"}}]}, "outside the bundle"),
        # JSON in a text: the file whose header the maps of a raw study would get
        ({"data": [{"id": "x", "scanner_files": '{"t1": "/home/x/t1.nii.gz"}'}]}, "signs"),
        ({"dataset_dir": "x; curl evil"}, "signs"),  # the last line of a training is a command with it
        ({"a": "<img src=x>"}, "signs"),
        ({"a": "\uff04x"}, "signs"),
        ({"handlers": "ftp:/abc"}, "expected a list"),
        ({"train#handlers": "@text"}, "handlers"),
        ({"a": "\x1b[2K all is well"}, "\\x1b"),
        ([{"a": 1}], "a list"),
        ('{"a": 1, "a": "$1"}', "twice"),
        ('{"a": ', "JSON"),
        ('{"a": "\u00e9"}', "ASCII"),
        ('{"a": ' + "9" * 5000 + "}", "JSON"),
        ("[" * 100_000, "JSON"),
        ('{"a": ' * 500 + "1" + "}" * 500, "more than 50 levels"),
        ('{"a": ' * 51 + "1" + "}" * 51, "more than 50 levels"),
        ('{"a": ' * 5 + "[" * 46 + "]" * 46 + "}" * 5, "more than 50 levels"),
    ],
)
def test_other_text_is_refused(tmp_path, config, part):
    refused(tmp_path, config, part)


def test_many_keys_are_searched_once(tmp_path):
    """20 000 keys took 50 s once, when each was looked for among all others; these would take twenty minutes."""
    config = "{" + ",".join(f'"a{number}": 1' for number in range(100_000)) + ', "a0": 1}'
    refused(tmp_path, config, "a0", "twice")


@pytest.mark.parametrize(
    ("metadata", "part"),
    [
        ({"intended_use": "$import antigravity"}, "antigravity"),
        ({"a": [{"b": "@run"}]}, "@run"),
        ({"a": "%/tmp/evil.json"}, "evil.json"),
        ({"a": {"_target_": "UNet"}}, "_target_"),
        ({"+a": 1}, "+a"),
        ({"a": "\x1b[2K"}, "\\x1b"),
        ({"schema": "http://192.0.2.1/schema.json"}, "expected one of MONAI's"),  # verify_metadata downloads it
        ({"schema": ["http://192.0.2.1/schema.json"]}, "expected one of MONAI's"),
    ],
)
def test_metadata_is_plain_text(tmp_path, metadata, part):
    write(tmp_path, {})
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata | {"homepage": "https://example.org"}))
    with bad_input("configs/metadata.json", part):
        check_config(tmp_path, "configs/metadata.json")


# ---- why: what MONAI and TensorBoard do with such configs


@pytest.mark.parametrize(
    "config",
    [
        {"a": "$__import__('pathlib').Path(CANARY).touch()"},
        {"a": {"_target_": "pathlib.Path.touch", "self": "$__import__('pathlib').Path(CANARY)"}},
        {"x": 0, "x or open(CANARY, 'w') or '": {"a": "$@#b'"}},
    ],
    ids=["expression", "target", "name of a section"],
)
def test_monai_would_have_run_it(tmp_path, config):
    """What is refused here is not refused by MONAI."""
    canary = tmp_path / "ran"
    config = json.loads(json.dumps(config).replace("CANARY", repr(str(canary))))
    with bad_input("configs/train.json"):
        check_config(write(tmp_path, config), "configs/train.json")
    assert not canary.exists()
    parser = ConfigParser(config)
    *_, section = config
    parser.get_parsed_content("a" if section == "a" else f"{section}::a")
    assert canary.exists()


def test_tensorboard_would_have_connected():
    """Why an address in a config is refused: what is logged would go there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        folder = f"ftp://127.0.0.1:{server.getsockname()[1]}/x"
        connected = []
        thread = threading.Thread(target=lambda: connected.append(server.accept()[0].close()))
        thread.start()
        with pytest.raises(EOFError):  # this server says nothing
            TensorBoardStatsHandler(log_dir=folder)
        thread.join()
    assert connected


# ---- a search for a way around; tests/sharing/search.py


def test_a_search_finds_its_way_where_nothing_is_checked():
    """So it would find a hole: the configs that it makes are hostile."""
    outcome = search(seed=0, tries=300, check=lambda bundle, config: None)
    assert outcome.through


@pytest.mark.slow
def test_a_search_finds_a_file_outside_the_bundle_where_paths_are_not_checked(monkeypatch):
    monkeypatch.setattr("custom.sharing.check_config.OUTSIDE", re.compile("(?!)"))
    # which seed finds one depends on the bundles' configs, which it starts from
    found = (event for seed in range(20) for event, _ in search(seed, tries=300).through)
    assert any("outside" in event for event in found)


def test_a_short_search_finds_no_way_around():
    outcome = search(seed=1, tries=100)
    assert outcome.passed > 1000
    assert outcome.through == []


@pytest.mark.slow
def test_a_search_of_a_minute_finds_no_way_around():
    outcome = search(seed=0, seconds=60)
    assert outcome.made > 20 and outcome.passed > 300
    assert outcome.through == []


@pytest.mark.parametrize(
    "reach",
    [
        lambda outside: (outside / "new").write_text("x"),
        lambda outside: (outside / "file").read_text(),
        lambda outside: Path("../outside/folder").mkdir(),
        lambda outside: Path("here").replace(outside / "there"),
        lambda outside: list(outside.iterdir()),
        lambda outside: Path("/outside").mkdir(),
        lambda outside: Path("~/outside").expanduser().write_text("x"),
    ],
)
def test_the_search_sees_files_outside_the_working_folder(tmp_path, reach):
    outside = tmp_path / "outside"
    (tmp_path / "working").mkdir()
    (tmp_path / "working" / "here").touch()
    outside.mkdir()
    (outside / "file").touch()
    with watched(tmp_path / "working") as watch:
        Path("here").read_text()
        Path("new").mkdir()
        assert watch.seen == []
        with pytest.raises(PermissionError):
            reach(outside)
        assert len(watch.seen) == 1
