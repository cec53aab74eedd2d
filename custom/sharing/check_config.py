"""Check of a bundle's configs against the allow-list, by their text: nothing is imported or evaluated."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ReferenceResolver

from custom.common.errors import BadInput
from custom.sharing.allow_list import (
    COMPONENTS,
    EARLIER_COMPONENTS,
    EARLIER_EXPRESSIONS,
    EARLIER_FUNCTIONS,
    EARLIER_OWN_COMPONENTS,
    EXPRESSIONS,
    FUNCTIONS,
    IMPORTS,
    LISTS,
    OWN_COMPONENTS,
    SECTIONS,
    SIBLING,
)

LONGEST_EXPRESSION = 500  # characters; a deeply nested one can exhaust Python's parser
DEEPEST = 50  # levels of nested objects and lists; more can exhaust the stack of a later reader
METADATA = "configs/metadata.json"  # nothing in it is instantiated or evaluated, so it may contain web addresses
KEY = re.compile(r"\w+(#\w+)*", re.ASCII)
REFERENCE = re.compile(r"@(?!_meta_)\w+(#\w+)*", re.ASCII)
OWN = re.compile(r"(custom(?:\.\w+)+)\.(\w+)", re.ASCII)
# Plain text has no sign that means more to a reader of it: $ @ % to MONAI; : in ftp://..., where TensorBoard would send
# its logs, and in C:; ~ for a user's home, which pathlib finds in ./~ too; \\ on Windows; quotes, as JSON has them.
PLAIN = re.compile(r"[\w .=/-]*", re.ASCII)
# Paths outside the bundle and the working folder (absolute, or with ..) and hidden folders in it, such as .venv, whose
# files Python runs.
OUTSIDE = re.compile(r"^ */|(^|/) *\.(?!/|$)")
# `monai.bundle verify_metadata` downloads the schema of the metadata from where they say
SCHEMA = "https://github.com/Project-MONAI/"
# The folders from which the code of a bundle, and of the bundle beside it, is loaded.
ROOTS = {"bundle_root": (".", "@bundle_root"), "synth_bundle_root": (SIBLING, "@synth_bundle_root")}
# Sections with a few values only: those folders, and what an expression makes a text of; of a list, that could be any.
FIXED: dict[str, tuple] = {**ROOTS, "raw": ("auto", "true", "false", "@raw", "$str(@raw).lower()", True, False)}


def check_config(bundle: Path, file: str) -> dict[str, Any]:
    """Return a JSON config, or raise `BadInput` if it names or evaluates anything that is not on the allow-list.

    Each file is checked independently of the configs that it is combined with: a component is complete in one place,
    and only arguments that are harmless in every component can be set in it from elsewhere.

    Args:
        bundle: the bundle's folder.
        file: path of the config inside it.
    """
    try:
        # ASCII: MONAI opens configs in the machine's encoding, in which other bytes may end a string elsewhere
        config = json.loads((bundle / file).read_bytes().decode("ascii"), object_pairs_hook=_without_duplicates)
        if not isinstance(config, dict):
            raise BadInput(f"found a {type(config).__name__}, expected a JSON object.")
        _check_depth(config)
        if file == METADATA:
            _check_metadata(config)
            if not str(config.get("schema", SCHEMA)).startswith(SCHEMA):
                raise BadInput(f"found the schema {config['schema']!r}, expected one of MONAI's, {SCHEMA}...")
        else:
            _check_value(bundle, config)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{file}: found no readable JSON ({str(error)!a}), expected a config in ASCII.") from error
    return config


def _check_depth(config: dict[str, Any]) -> None:
    """Check that no more than `DEEPEST` objects and lists are nested."""
    level: list[Any] = [config]
    for _ in range(DEEPEST):
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
    if any(isinstance(value, dict | list) for value in level):
        raise BadInput(f"found more than {DEEPEST} levels of nested objects and lists, expected at most {DEEPEST}.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return ``pairs`` as a dict; duplicate keys are refused, since readers differ in which of the two they use."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadInput(f"found the key {key!r} twice in one object, expected it once.")
        found[key] = value
    return found


def _check_metadata(value: Any) -> None:
    """Check that metadata, which MONAI adds to the config, contains no references, expressions or special keys."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key.startswith(("_", "+")) or not key.isprintable():
                raise BadInput(f"found the key {key!r}, expected the name of a property.")
            _check_metadata(part)
    elif isinstance(value, list):
        for part in value:
            _check_metadata(part)
    elif isinstance(value, str) and (value.startswith(("$", "@", "%")) or not value.isprintable()):
        raise BadInput(f"found {value!r}, expected printable text that does not begin with $, @ or %.")


def _check_value(bundle: Path, value: Any, name: str = "") -> None:
    """Check the value of the key ``name`` in a config, recursively."""
    if (name in LISTS and not isinstance(value, list)) or (name in FIXED and value not in FIXED[name]):
        expected = " or ".join(map(repr, FIXED[name])) if name in FIXED else "a list"
        raise BadInput(f"found {name} {value!r}, expected {expected}.")
    if isinstance(value, dict):
        arguments = _arguments(bundle, value) if {"_target_", "_mode_"} & value.keys() else None
        for key, part in value.items():
            if key in ("_target_", "_mode_") or key in (arguments or ()):
                _check_value(bundle, part, key)
            elif arguments is not None:
                raise BadInput(
                    f"found the argument {key!r} of {value['_target_']}, expected one of those in"
                    f" custom/sharing/allow_list.py: {' '.join(sorted(arguments)) or 'none'}."
                )
            else:
                _check_value(bundle, part, _name_of(key, part))
    elif isinstance(value, list):
        for part in value:
            _check_value(bundle, part)
    elif isinstance(value, str):
        _check_text(value)


def _name_of(key: str, value: Any) -> str:
    """Return the last part of a key outside a component, such as c in ``a#b#c``, which sets a value elsewhere."""
    path = key.removeprefix("+")
    name = path.rpartition("#")[2]
    if not KEY.fullmatch(path) or name.startswith("_"):
        raise BadInput(f"found the key {key!r}, expected names separated by #.")
    if path != key and not isinstance(value, list):
        raise BadInput(f"found the key {key!r} with a {type(value).__name__}, expected a list for a key with +.")
    if name != path and name not in SECTIONS | ARGUMENTS:
        raise BadInput(f"found the key {key!r}, expected it to end in an argument in custom/sharing/allow_list.py.")
    return name


def _arguments(bundle: Path, component: Mapping[str, Any]) -> frozenset[str]:
    """Return the permitted arguments of a component, if its ``_target_`` and its ``_mode_`` are on the allow-list.

    A component of custom/ must be defined in the module that is named, not imported there.
    """
    target = component.get("_target_")
    name = target if isinstance(target, str) else ""
    known = ALLOWED
    own = OWN.fullmatch(name)
    if own is not None:
        module, name = own.groups()
        defined = _defined(bundle / f"{module.replace('.', '/')}.py")
        known = {component: OWN_ALLOWED[component] for component in defined & OWN_ALLOWED.keys()}
    if name not in known:
        raise BadInput(f"found _target_ {target!r}, expected one in custom/sharing/allow_list.py.")
    mode = component.get("_mode_", "default")
    if mode != "default" and not (mode == "callable" and name in FUNCTIONS | EARLIER_FUNCTIONS):
        raise BadInput(f"found _mode_ {mode!r} of {target}, which custom/sharing/allow_list.py does not list for it.")
    return known[name]


def _defined(module: Path) -> set[str]:
    """Return the names of the classes and functions that a module defines at its top level."""
    try:
        body = ast.parse(module.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def _check_text(text: str) -> None:
    """Check a string of a config: plain text, a reference, a statement or an expression."""
    if text.startswith("$"):
        if text not in IMPORTS:
            check_expression(text)
    elif text.startswith("@"):
        if not REFERENCE.fullmatch(text):
            raise BadInput(f"found the reference {text!r}, expected one to a section, not to {METADATA}.")
    elif not PLAIN.fullmatch(text):
        raise BadInput(f"found {text!r}, expected text of letters, digits, spaces and the signs . _ - = / only.")
    elif OUTSIDE.search(text):
        raise BadInput(
            f"found {text!r}, which may lead outside the bundle or be hidden, expected a path inside a folder."
        )


def check_expression(text: str) -> None:
    """Raise `BadInput` unless an expression (with its ``$``) is on the allow-list; its references may differ."""
    if len(text) > LONGEST_EXPRESSION:
        raise BadInput(f"found an expression of {len(text)} characters, expected at most {LONGEST_EXPRESSION}.")
    try:
        form = _form(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadInput(f"found {text!r}, expected one expression or one of {', '.join(IMPORTS)}.") from None
    if form not in FORMS:
        raise BadInput(f"found the expression {text!r}, expected one of those in custom/sharing/allow_list.py.")


def _form(text: str) -> str:
    """Return an expression in Python's normal form, with an @ for every reference.

    MONAI replaces references in the text of an expression before it evaluates it, even inside quotes. The form is
    therefore derived from the text after this replacement.
    """
    references = dict.fromkeys(ReferenceResolver.match_refs_pattern(text))
    code = ReferenceResolver.update_refs_pattern(text, references)[1:]
    written = ast.unparse(ast.parse(code, mode="eval"))
    return re.sub(r"__local_refs\['(?!_meta_)(?:\w+::)*(\w+)'\]", _placeholder, written, flags=re.ASCII)


def _placeholder(reference: re.Match[str]) -> str:
    """Return the placeholder of a reference: @, followed by a name if the values of that section are restricted."""
    if reference[1] in ROOTS:
        return "@bundle_root"
    return f"@{reference[1]}" if reference[1] in {*LISTS, *FIXED} else "@"


def _joined(*tables: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return name -> arguments, merged from all tables."""
    names: Iterable[str] = {name for table in tables for name in table}
    return {name: frozenset(" ".join(table.get(name, "") for table in tables).split()) for name in names}


ALLOWED = _joined(COMPONENTS, EARLIER_COMPONENTS)
OWN_ALLOWED = _joined(OWN_COMPONENTS, EARLIER_OWN_COMPONENTS)
ARGUMENTS = frozenset().union(*ALLOWED.values(), *OWN_ALLOWED.values())
FORMS = frozenset(map(_form, (*EXPRESSIONS, *EARLIER_EXPRESSIONS)))
