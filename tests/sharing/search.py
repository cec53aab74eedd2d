"""A random search for hostile configs that pass the check: those that do are built by MONAI.

Every piece of text in them tries to call a marker function, to start a program, to open a connection or to reach a file
outside the working folder, and Python's audit events show whether one succeeds. The tests run it for a minute; for
longer, in the project's folder: ``python -m tests.sharing.search --seconds 3600 --seed 1``.
"""

from __future__ import annotations

import argparse
import builtins
import itertools
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

import custom
from custom.common.errors import BadInput
from custom.sharing import allow_list, check_config
from custom.synthesis.modality_unet import ModalityUNet
from custom.synthesis.network import SpaceToDepthUNet

SECTIONS = ("a", "b", "c", "d", "handlers", "sampler", "device", "amp", "seed", "bundle_root", "synth_bundle_root")
WORDS = (
    *("marker()", "$marker()", "./$marker()", "x$marker()", "$", "$m", "arker()", "%", "%evil.json", "@a", "@", "./@a"),
    *(
        "ftp:",
        "ftp://127.0.0.1:9/x",
        "//127.0.0.1",
        "/x",
        "\\\\127.0.0.1",
        "$import os",
        "__import__('os').system('x')",
    ),
    *("image", "label", "cpu", "true", "false", "x", "", "ftp:/abc", ".", "noise", "model.pt", "sample"),
)
PATHS = (
    "..",
    "../outside",
    "x/../../outside",
    "~",
    "~/x",
    "./~/outside",
    "/outside",
    "../outside/models/model.pt",
    "$@a + '/models/model.pt'",
)
PATH_ARGUMENTS = re.compile(r".*_dir|path|folder|filename|checkpoint|datalist")
# pieces of expressions: {} stands for another piece
PIECES = (
    *(
        "@a",
        "@b",
        "@handlers",
        "@c#d",
        "@_meta_",
        "marker()",
        "marker",
        "'$marker()'",
        "'./$marker()'",
        "'x'",
        "36",
        "0",
    ),
    *("b'$marker()'", "str({})", "str({}, 'ascii')", "{}.lower()", "{} + {}", "{} * 2", "{} % {}", "{}[1:]", "{}[0]"),
    *("len({})", "[{}]", "({}, {})", "{{'x': {}}}", "{} if {} else {}", "{} and {}", "lambda x: {}", "chr({})"),
    *("{}.run()", "{}.to({})", "{}.weights({}, {})", "''.join({})", "'{{}}'.format({})", "{}.__class__", "eval({})"),
    *("[{} for x in [1]]", "f'{{{}}}'", "torch.device({})", "os.environ[{}]", "os.system({})", "__import__({})"),
)
TARGETS = (
    *("builtins.marker", "os.system", "subprocess.Popen", "builtins.eval", "monai.bundle.ConfigParser", "Lambda", "@a"),
    *("custom.sharing.bundle_zip.write_zip", "custom.segmentation.synthesize_t1ce.check_synthesizer", "$marker"),
)
MODES = ("default", "callable", "callable", "debug", "$marker()")
# Audit events (https://docs.python.org/3/library/audit_events.html) of what a config must never do.
FORBIDDEN = re.compile(
    r"os\.(system|exec|posix_spawn|spawn|startfile|fork)|subprocess\.Popen|pty\.spawn|socket\.(connect|getaddrinfo|"
    r"gethostbyname|sendto)|ftplib\.connect|urllib\.Request|http\.client\.connect|smtplib\.connect|webbrowser\.open"
)
# And of what it must not do outside the working folder. Programs may read elsewhere, such as their own files.
CHANGES = re.compile(
    r"os\.(mkdir|rename|remove|rmdir|link|symlink|truncate|chmod|chown)|shutil\.(rmtree|move|copyfile)"
)
READS = re.compile(r"os\.(listdir|scandir)|glob\.glob")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Outcome(NamedTuple):
    """What a search did: configs made, sections that passed the check, and what got through with its config."""

    made: int
    passed: int
    through: list[tuple[str, str]]


class _Watch:
    """What happens while configs are built: calls of the marker, and events that are then stopped."""

    def __init__(self) -> None:
        self.on = False
        self.folder = Path()
        self.seen: list[str] = []

    def event(self, name: str, arguments: tuple) -> None:
        if self.on and (FORBIDDEN.fullmatch(name) or self.is_outside(name, arguments)):
            self.seen.append(f"{name}{arguments}")
            raise PermissionError(name)

    def is_outside(self, name: str, arguments: tuple) -> bool:
        """Return whether an event changes a file outside the folder, or reads one beside it."""
        changes = bool(CHANGES.fullmatch(name)) or (name == "open" and bool((arguments[2] or 0) & WRITING))
        if not (changes or name == "open" or READS.fullmatch(name)):
            return False
        for path in arguments[:2] if changes and name != "open" else arguments[:1]:
            if isinstance(path, (str, bytes)):  # and no number of an open file
                file = Path(os.path.abspath(os.fsdecode(path)))
                if file.is_relative_to(self.folder):
                    continue
                own = file.is_relative_to(tempfile.gettempdir()) or file == Path(os.devnull) or file.suffix == ".pyc"
                if file.is_relative_to(self.folder.parent) or (changes and not own):
                    return True
        return False

    def marker(self, *arguments: object, **named: object) -> None:
        self.seen.append("marker()")


_WATCH = _Watch()
_HOOKS: list[Callable] = []


@contextmanager
def watched(folder: Path) -> Iterator[_Watch]:
    """Watch this process, in ``folder``, with ``marker`` a name that every expression knows."""
    if not _HOOKS:  # an audit hook cannot be removed
        _HOOKS.append(_WATCH.event)
        sys.addaudithook(_WATCH.event)
    before, out = Path.cwd(), sys.stdout
    _WATCH.seen.clear()
    _WATCH.folder = folder.resolve()
    os.chdir(folder)
    builtins.marker = _WATCH.marker  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as sys.stdout:
            warnings.simplefilter("ignore")
            _WATCH.on = True
            yield _WATCH
    finally:
        _WATCH.on = False
        sys.stdout = out
        del builtins.marker  # type: ignore[attr-defined]
        os.chdir(before)


class Maker:
    """Makes values of configs at random, honest and hostile ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        modules = {
            match: f"custom.{path.parent.name}.{path.stem}"
            for path in Path(custom.__file__).parent.glob("*/*.py")
            for match in re.findall(r"^(?:class|def) (\w+)", path.read_text(), re.MULTILINE)
        }
        self.components = [(name, arguments.split()) for name, arguments in allow_list.COMPONENTS.items()]
        for name, arguments in allow_list.OWN_COMPONENTS.items():
            self.components.append((f"{modules[name]}.{name}", arguments.split()))
        chain = [component for component in self.components if component[0].endswith(".SynthesizeT1ced")]
        self.components += chain * 10  # which hands what it is given to another parser
        self.arguments = sorted({argument for _, arguments in self.components for argument in arguments})

    def pick(self, choices: Any) -> Any:
        """Return one of some choices."""
        return self.random.choice(choices)

    def expression(self, depth: int = 0) -> str:
        """Return one put together of pieces, or one of the list with other references or a letter changed."""
        if depth == 0 and self.random.random() < 0.6:
            text: str = self.pick(allow_list.EXPRESSIONS)
            if self.random.random() < 0.8:
                text = re.sub(r"@[\w#]+", lambda _: f"@{self.pick(SECTIONS)}", text)
            if self.random.random() < 0.2:
                at = self.random.randrange(len(text))
                text = text[:at] + self.pick((*WORDS, *"'\"()[]+@#$%\\:b")) + text[at + self.pick((0, 1)) :]
            return text
        piece = self.pick(PIECES[:12] if depth > 3 else PIECES)
        holes = [self.expression(depth + 1) for _ in range(piece.count("{}"))]
        return ("$" if depth == 0 else "") + piece.format(*holes)

    def value(self, depth: int = 0) -> Any:
        """Return text, an expression, a reference, a number, a list, a section or a component."""
        kind = self.random.random()
        if kind < 0.2:
            return self.pick((*WORDS, *PATHS))
        if kind < 0.45:
            return self.expression()
        if kind < 0.6:
            return f"@{self.pick(SECTIONS)}"
        if kind < 0.7 or depth > 2:
            return self.pick((0, 1, 2, 0.5, True, False, None))
        if kind < 0.8:
            return [self.value(depth + 1) for _ in range(self.random.randrange(3))]
        if kind < 0.85:
            return {self.pick(SECTIONS): self.value(depth + 1)}
        return self.component(depth)

    def component(self, depth: int) -> dict[str, Any]:
        """Return a component of the list with some of its arguments, or seldom another one, or with another one."""
        target, arguments = self.pick(self.components)
        chain = target.endswith(".SynthesizeT1ced")
        chosen = [argument for argument in arguments if chain or self.random.random() < 0.8]
        component = {"_target_": target} | {argument: self.value(depth + 1) for argument in chosen}
        for argument in filter(PATH_ARGUMENTS.fullmatch, chosen):
            if self.random.random() < 0.6:
                component[argument] = self.pick(PATHS)
        if chain:
            component |= {"version": "0.0.0", "synth_bundle_root": self.pick(("@synth_bundle_root", "evil"))}
            component |= {"cross_fitted": []}
            if self.random.random() < 0.7:
                component["sampler"] = {"_target_": "custom.synthesis.sampler.sample", "_mode_": "callable"}
            for name, honest in {"seed": 0, "device": "cpu", "amp": False, "consistency": 0}.items():
                if self.random.random() < 0.7:
                    component[name] = honest
        if self.random.random() < 0.1:
            component["_target_"] = self.pick(TARGETS)
        if self.random.random() < 0.1:
            component[self.pick((*self.arguments, "compile", "compile_kwargs", "_requires_", "_disabled_", "fn"))] = (
                self.value(depth + 1)
            )
        if self.random.random() < 0.2:
            component["_mode_"] = self.pick(MODES)
        return component

    def section(self, key: str | None) -> tuple[str, Any]:
        """Return the key and the value of a section, or without a key of what is laid over one."""
        if key is not None:
            return key, self.value()
        key, kind = self.pick(SECTIONS), self.random.random()
        if kind < 0.5:
            key = f"{key}#{self.pick((*self.arguments, '_target_', '_mode_', 'compile', '0', *SECTIONS))}"
        elif kind < 0.7:
            return f"+{key}", self.pick(([self.value()], self.component(0)))
        return key, self.value()


def check_section(bundle: Path, config: dict[str, Any]) -> None:
    """Check a part of a config as `check_config` does, but without files: there are thousands a minute."""
    check_config._check_value(bundle, config)


def write_synthesizer(folder: Path) -> Path:
    """Write a synthesizer's bundle with small networks and its variant direct, and return its folder."""
    root = folder / "recoseg_synth"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    shutil.copytree(Path(custom.__file__).parent, root / "custom", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "configs" / "variants").mkdir()
    torch.save(ModalityUNet(13, [8]).state_dict(), root / "models" / "model.pt")
    torch.save(SpaceToDepthUNet(4, 1, [32], 1).state_dict(), root / "models" / "direct.pt")
    (root / "configs" / "metadata.json").write_text('{"version": "0.0.0"}')
    configs = Path(custom.__file__).resolve().parents[1] / "bundles" / "recoseg_synth" / "configs"
    for name, channels in (("inference", [8]), ("variants/direct", [32])):
        config = json.loads((configs / f"{name}.json").read_text())
        config["network_def"]["channels"] = channels
        (root / "configs" / f"{name}.json").write_text(json.dumps(config))
    return root


def search(
    seed: int, *, seconds: float = float("inf"), tries: float = float("inf"), check: Callable = check_section
) -> Outcome:
    """Make configs until the time or the number of tries is up, and build those that ``check`` lets pass."""
    maker, passed, through = Maker(seed), 0, []
    locator = ConfigParser().locator  # which looks through all of MONAI once
    end = time.monotonic() + seconds
    # custom/ does not change meanwhile
    defined = patch.object(check_config, "_defined", lru_cache(check_config._defined))
    # the home folder is beside the working folder, where it is watched
    with tempfile.TemporaryDirectory() as temporary, defined, patch.dict(os.environ, HOME=temporary):
        folder = Path(temporary) / "working"
        write_synthesizer(folder)
        shutil.copytree(folder / "recoseg_synth", Path(temporary) / "outside")
        bundle = folder / "recoseg_seg"
        shutil.copytree(folder / "recoseg_synth" / "custom", bundle / "custom")
        (folder / "evil.json").write_text('"$marker()"')
        with watched(folder) as watch:
            for made in itertools.count():
                if time.monotonic() > end or made >= tries or through:
                    return Outcome(made, passed, through)
                sections: list[tuple[str, Any]] = []
                wanted = [*SECTIONS, *[None] * 6]  # a config, and what is laid over it
                while wanted:
                    key, value = maker.section(wanted[0])
                    try:
                        check(bundle, {key: value})
                    except BadInput:
                        continue
                    sections.append((key, value))
                    wanted.pop(0)
                passed += len(sections)
                parser = ConfigParser({"imports": list(allow_list.IMPORTS)})
                parser.locator = locator
                for key, value in json.loads(json.dumps(sections)):
                    with suppress(Exception):  # what it is to be laid over may be of another kind
                        merge_kv(parser, key, value)
                for section in SECTIONS:
                    with suppress(Exception):  # most of them fit nowhere
                        parser.get_parsed_content(section)
                through += [(event, json.dumps(sections)) for event in watch.seen]
    raise AssertionError("unreachable: the loop has no end of its own")


def main() -> None:
    """Search, and end with status 1 if anything got through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcome = search(options.seed, seconds=options.seconds)
    print(
        f"{outcome.made} configs built from {outcome.passed} sections that passed; {len(outcome.through)} got through."
    )
    for event, config in outcome.through:
        print(event, config, sep="\n")
    sys.exit(bool(outcome.through))


if __name__ == "__main__":
    main()
