"""Expressions and names in configs: what a bundle needs passes, what could run anything else does not."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator
from monai.handlers import TensorBoardStatsHandler

from custom.sharing.allow_list import BUNDLES, TARGETS
from custom.sharing.check_config import check_config, check_expression
from tests.studies import bad_input

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = [
    (bundle, file.relative_to(REPOSITORY / "bundles" / bundle).as_posix())
    for bundle in BUNDLES
    for file in sorted((REPOSITORY / "bundles" / bundle / "configs").rglob("*.json"))
]


def write(folder: Path, config: object) -> Path:
    """Write configs/train.json of a bundle with one module of its own, and return the bundle's folder."""
    (folder / "configs").mkdir()
    (folder / "configs" / "train.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / "custom" / "room").mkdir(parents=True)
    (folder / "custom" / "room" / "own.py").write_text(
        "import os\nfrom pathlib import Path\n\ndef thing(): ...\n\nclass Part: ...\n"
    )
    return folder


@pytest.mark.parametrize(("bundle", "file"), CONFIGS)
def test_every_config_of_the_project_passes(bundle, file):
    """If this fails for a new name, read custom/sharing/allow_list.py before adding the name to it."""
    check_config(REPOSITORY / "bundles" / bundle, file)


def test_every_short_name_on_the_list_is_one_of_monai():
    locate = ComponentLocator().get_component_module_name
    assert [name for name in TARGETS if "." not in name and locate(name) is None] == []


@pytest.mark.parametrize(
    "expression",
    [
        "$@a#b.run()",
        "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "$torch.device('cuda:' + os.environ['LOCAL_RANK'])",
        "$dist.init_process_group(backend='nccl' if torch.cuda.is_available() else 'gloo')",
        "$[@device] if torch.cuda.is_available() else None",
        "$lambda output: output['loss'].item()",
        "$min(@val_interval, @train#trainer#max_epochs)",
        "$str(@amp).lower() == 'true' and torch.device(@device).type == 'cuda'",
        "$@bundle_root + '/models/model.pt'",
    ],
)
def test_what_a_bundle_needs_is_accepted(expression):
    check_expression(expression)


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("$__import__('os').system('x')", "__import__"),
        ("$eval('1')", "eval"),
        ("$open('/etc/passwd').read()", "open"),
        ("$getattr(torch, 'load')", "getattr"),
        ("$os.system('x')", "os.system"),
        ("$os.environ.__class__", "__class__"),
        ("$torch.load('x')", "torch.load"),
        ("$torch.hub.load('x', 'y')", "torch.hub"),
        ("$torch.os.system('x')", "torch.os"),
        ("$monai.utils.run_cmd(['x'])", "monai.utils.run_cmd"),
        ("$monai.utils", "monai.utils"),
        ("$().__class__.__base__.__subclasses__()", "__class__"),
        ("$@network.__class__", "__class__"),
        ("$@network.forward.__globals__['os']", "__globals__"),
        ("$'{0.__class__}'.format(@network)", "format"),
        ("$f'{@network}'", "f'"),
        ("$[x for x in @a]", "for x in"),
        ("$(x := 1)", "x := 1"),
        ("$lambda x: x()", "x()"),
        ("$lambda x=open: x", "lambda"),
        ("$lambda *x: 1", "lambda"),
        ("$lambda str: str('x')", "str('x')"),
        ("$@run('x')", "__local_refs"),
        ("$@run[0]('x')", "__local_refs"),
        ("$__local_refs", "__local_refs"),
        ("$__builtins__", "__builtins__"),
        ("$2 ** @a", "Pow"),
        ("$'$import os'", "$import os"),
        ("$'%/tmp/evil.json'", "%/tmp/evil.json"),
        # MONAI fills in references inside a string as well, and its quotes end the string
        ("$'@a' + eval('1') + '@a'", "one expression"),
        ("$1; 2", "one expression"),
        ("$import os", "one expression"),
        ("$os.environ", "os.environ"),
        ("$os.environ['AWS_SECRET_ACCESS_KEY']", "AWS_SECRET_ACCESS_KEY"),
        ("$os.environ[@name]", "os.environ"),
        ("$dist.init_process_group('gloo', 'tcp://192.0.2.1:80')", "init_process_group"),
        ("$dist.init_process_group(backend='gloo', init_method='env')", "init_process_group"),
        ("$dist.init_process_group(**@options)", "init_process_group"),
        ("$'ftp://192.0.2.1'", "ftp://192.0.2.1"),
        ("$'ftp\\x3a//192.0.2.1'", "ftp://192.0.2.1"),
        ("$'ftp:' + '//192.0.2.1'", "ftp:"),
        ("$'/' + '/192.0.2.1/share'", "'/'"),
        ("$@_meta_#homepage", "_meta_"),
        ("$@text[:4] + '//192.0.2.1'", "[:4]"),
        ("$'a:b'[1] + '//192.0.2.1'", "[1]"),
        ("$" + "(" * 300 + ")" * 300, "expression"),
        ("$" + "1 + " * 400 + "1", "at most 500"),
    ],
)
def test_anything_else_is_refused_and_named(expression, part):
    with bad_input(part):
        check_expression(expression)


@pytest.mark.parametrize(
    "target",
    ["UNet", "torch.optim.Adam", "custom.room.own.thing", "custom.room.own.Part"],
)
def test_a_target_on_the_list_or_defined_in_custom_is_accepted(tmp_path, target):
    check_config(write(tmp_path, {"a": [{"_target_": target, "_mode_": "callable"}]}), "configs/train.json")


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "run_cmd", "monai.utils.run_cmd", "torch.load", "torch.hub.load", "Lambda"),
        *(
            "custom.room.own.os.system",
            "custom.room.own.Path",
            "custom.room.own.os",
            "custom.room.own",
            "custom.room.missing.thing",
            "custom.own.thing",
        ),
        *(
            "@name",
            "$os.system",
            "UNet ",
            "custom.room.own.thing.__globals__",
            "custom..own.thing",
            None,
            ["UNet"],
            {"a": 1},
        ),
    ],
)
def test_any_other_target_is_refused_and_named(tmp_path, target):
    with bad_input("configs/train.json", "_target_", repr(target)):
        check_config(write(tmp_path, {"a": [{"_target_": target}]}), "configs/train.json")


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"a#b#_target_": "os.system"}, "os.system"),
        ({"+_target_": "os.system"}, "os.system"),
        ({"a": {"_target_": "UNet", "_mode_": "debug"}}, "debug"),
        ({"a": {"b": [1, ["$open('x')"]]}}, "open"),
        ({"a": {"_requires_": "$open('x')"}}, "open"),
        ({"imports": ["$import subprocess"]}, "import subprocess"),
        ({"imports": ["$from os import system as str"]}, "from os import"),
        ({"imports": ["$import os as torch"]}, "import os as torch"),
        ({"a": "%/tmp/evil.json::a"}, "includes"),
        ({"a": "%../evil.json"}, "includes"),
        ({"a": "%b"}, "includes"),
        ({"output_dir": "ftp://192.0.2.1/x"}, "address"),
        ({"output_dir": "ftp:\u002f/192.0.2.1"}, "address"),
        ({"a": "ftp:", "output_dir": "$@a + '//192.0.2.1'"}, "address"),
        ({"a": "ftp:/", "output_dir": "$@a + '/192.0.2.1'"}, "address"),
        ({"output_dir": "@_meta_#homepage"}, "_meta_"),
        ({"output_dir": "//192.0.2.1/share"}, "address"),
        ({"output_dir": "\\\\192.0.2.1\\share"}, "address"),
        ({"a": "\\", "output_dir": "$@a + @a + '192.0.2.1'"}, "address"),
        ({"x'] or eval('1') or ['x": {"a": "$@#b", "b": 1}}, "relative"),
        ([{"a": 1}], "a list"),
        ('{"a": 1, "a": "$1"}', "twice"),
        ('{"a": ', "JSON"),
        ('{"a": "\u00e9"}', "ASCII"),
        ("[" * 100_000, "JSON"),
        ('{"a": ' * 980 + "1" + "}" * 980, "recursion"),
        ({"a": "$" + "-" * 498 + "1"}, "recursion"),
    ],
)
def test_ways_around_are_closed(tmp_path, config, part):
    with bad_input("configs/train.json", part):
        check_config(write(tmp_path, config), "configs/train.json")


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
