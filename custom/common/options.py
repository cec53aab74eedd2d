"""Check of command line options: an unknown option is refused, with the nearest known name.

``monai.bundle run`` writes every ``--name value`` into the config, known or not, so a misspelt option would silently
have no effect. `check_options` is the first step of ``run`` in every config.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

import fire
import monai.bundle
import torch
from monai.bundle import ConfigComponent, ConfigParser, ConfigWorkflow, ReferenceResolver
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from custom.common.cli_flags import as_choice, as_number
from custom.common.errors import BadInput
from custom.common.precision import AUTO

# options of MONAI's command itself
OF_MONAI = {name for taker in (monai.bundle.run, ConfigWorkflow) for name in inspect.signature(taker).parameters}
OF_MONAI.remove("override")  # collects all other options
OF_TRACKING: Any = DEFAULT_EXP_MGMT_SETTINGS["mlflow"]["configs"]
HELP = ("help", "h")
FLAG = ("true", "false")
# Values that are checked before anything is read; a wrong flag would count as false.
VALUES = {
    **{
        "amp": (AUTO, *FLAG),
        "raw": (AUTO, *FLAG),
        "resume": (AUTO, *FLAG),
        "fine_pass": (AUTO, *FLAG),
        "dicom_ids": ("hash", "folder"),
    },
    **dict.fromkeys(("flip", "report", "save_maps", "skip_existing", "keep_prepared"), FLAG),
    **dict.fromkeys(("synthesis#fill_flair", "table#as_json"), FLAG),
}
# Numbers that are checked before anything is read: the least of a whole number, and shares of 1.
LEAST = {
    **dict.fromkeys(("batch_size", "max_epochs", "val_interval", "slices_per_epoch", "sampler#steps"), 1),
    "folds": 2,
    "neighbours": 0,
}
UP_TO_1 = ("learning_rate", "missing_share", "partial_share", "tumour_share")


def check_options(arguments: Sequence[str] | None = None) -> None:
    """Refuse unknown options of this process's ``monai.bundle run``; print all options for ``--help``.

    Known options are the keys of the configs, their entries (``sampler#steps``), the arguments of the classes and
    functions in the configs (``optimizer#weight_decay``), and MONAI's own options. Nothing is checked in a process that
    was not started as ``python -m monai.bundle``, such as MONAI Label's server: its options are not overrides.

    Args:
        arguments: the command line, by default `sys.argv`.

    Raises:
        BadInput: an option is unknown or has a value that it cannot have, or the device cannot be used.
        SystemExit: with status 0, after ``--help``.
    """
    program, *words = sys.argv if arguments is None else arguments
    if Path(program).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return
    options = _parse(words[1:])  # without the command
    if options.get("args_file"):
        options = {**ConfigParser.load_config_file(options["args_file"]), **options}
    parser = ConfigParser()
    parser.read_config(options["config_file"])
    if any(name in options for name in HELP):
        print(describe(parser))
        raise SystemExit(0)
    ignored = OF_MONAI | (set(OF_TRACKING) if options.get("tracking") else set())
    given = {name: value for name, value in options.items() if name not in ignored}
    typed = {word.lstrip("-").partition("=")[0] for word in words if word.startswith("-")}
    require_known(parser, given, {word.replace("-", "_"): f"--{word}" for word in typed})


def require_known(parser: ConfigParser, options: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> None:
    """Refuse options that the configs do not know, and set the others in ``parser``.

    Args:
        parser: the configs.
        options: name -> value.
        typed: name -> the option as it stands on a command line; None for arguments of a function.

    Raises:
        BadInput: an option is unknown or has a value that it cannot have, or the device cannot be used.
    """
    dashes, everything = ("", []) if typed is None else ("--", ["--help lists all"])
    for name, value in options.items():
        if name.startswith(ConfigParser.meta_key):
            continue
        if not is_known(parser, name):
            near = nearest(parser, name)
            advice = [f"the nearest that is known is {dashes}{near}"] if near else []
            shown = (typed or {}).get(name, f"{dashes}{name}")
            raise BadInput(
                f"The option {shown} is not known{'; ' if near or everything else ''}"
                f"{', and '.join(advice + everything)}."
            )
        if not str(value).startswith(("$", "@")):  # an expression, whose value is known later
            if name in VALUES:
                as_choice(value, name, VALUES[name])
            elif name in LEAST:
                as_number(value, name, least=LEAST[name])
            elif name in UP_TO_1:
                as_number(value, name, most=1.0)
            elif isinstance(parser.get(name), bool) and not isinstance(value, bool):
                # nothing converts it: the text "false" would count as true
                raise BadInput(f"--{name} has the value {value!r}, expected True or False, as Python writes them.")
        parser[name] = value  # a component that is replaced has other arguments
        if name == "device":
            _require_device(value)


def _require_device(device: Any) -> None:
    """Refuse a device that this machine does not have; PyTorch says so late, in a long traceback."""
    if str(device).startswith(("$", "@")):  # an expression, which names it later
        return
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, TypeError):
        here = ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
        raise BadInput(f"The device {device} cannot be used, expected one that this machine has: {here}.") from None


def _parse(words: Sequence[str]) -> dict[str, Any]:
    """Return option -> value as fire passes them to MONAI."""
    given: dict[str, Any] = {}

    def run(*ids: str, **options: Any) -> None:
        given.update(options)

    fire.Fire(run, command=list(words))
    return given


def is_known(parser: ConfigParser, name: str) -> bool:
    """Return whether ``name`` is an entry of the configs, or an argument of one of their components.

    >>> parser = ConfigParser({"sampler": {"_target_": "custom.synthesis.sampler.sample", "steps": 1}})
    >>> [is_known(parser, name) for name in ("sampler#steps", "sampler#eta", "sampler#step")]
    [True, True, False]
    """
    if name in parser:
        return True
    parent, last = ReferenceResolver.split_id(name, last=True)
    part = parser.get(parent) if parent else None
    if part is None or not ConfigComponent.is_instantiable(part):
        return False
    accepted = _arguments(parser, part)
    return accepted is None or last in accepted | ConfigComponent.non_arg_keys


def _arguments(parser: ConfigParser, part: Mapping[str, Any]) -> set[str] | None:
    """Return the argument names of a component of a config; None if it accepts any."""
    target = ConfigComponent(config=part, locator=parser.locator).resolve_module_name()
    component: Any = locate(target) if isinstance(target, str) else target
    try:
        parameters = inspect.signature(component).parameters
    except (TypeError, ValueError):  # missing, or without a signature: MONAI reports this when it instantiates it
        return None
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return None
    return set(parameters)


def nearest(parser: ConfigParser, name: str) -> str | None:
    """Return the known option with the most similar name, or None if none is similar.

    >>> parser = ConfigParser({"flip": True, "sampler": {"steps": 1}})
    >>> [nearest(parser, name) for name in ("flips", "sampler#step", "steps", "zzz")]
    ['flip', 'sampler#steps', 'sampler#steps', None]
    """
    parent, last = ReferenceResolver.split_id(name, last=True)
    part = parser.get(parent) if parent else None
    if isinstance(part, Mapping):
        arguments = _arguments(parser, part) if ConfigComponent.is_instantiable(part) else None
        known = [f"{parent}#{entry}" for entry in {*part, *(arguments or ())} if not entry.startswith("_")]
    else:
        known = [*parser.get(), *OF_MONAI]
        entries = [
            f"{key}#{last}" for key, value in parser.get().items() if isinstance(value, Mapping) and last in value
        ]
        if entries:
            return entries[0]
    found = difflib.get_close_matches(name.replace("::", "#"), sorted(known), n=1)
    return found[0].replace("::", "#") if found else None


def describe(parser: ConfigParser) -> str:
    """Return the text of ``--help``: every setting of the configs with its default, and the names of the components."""
    settings, parts = {}, []
    for name, value in parser.get().items():
        if _is_setting(value):
            settings[name] = value
        elif name != ConfigParser.meta_key:
            parts.append(name)
    width = max(map(len, settings), default=0) + 2
    lines = [f"  --{name.ljust(width)}{value!r}" for name, value in settings.items() if name != "imports"]
    return "\n".join(
        [
            "Options of these configs, with their defaults; docs/reference/configuration.md explains them:",
            *lines,
            "",
            "An entry of a part is set as --part#entry, such as --sampler#steps 10. The parts:",
            f"  {', '.join(parts)}",
        ]
    )


def _is_setting(value: Any) -> bool:
    """Return whether a value is neither a component nor a list of components."""
    if isinstance(value, list):
        return not any(isinstance(each, Mapping) for each in value)
    return not isinstance(value, Mapping)
