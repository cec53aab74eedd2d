"""What a bundle's configs can make MONAI do, read from their text: nothing is imported or evaluated."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver

from custom.common.errors import BadInput
from custom.sharing.allow_list import ARGUMENTS, ENVIRONMENT, IMPORTS, MEMBERS, MODES, NAMES, TARGETS

LONGEST_EXPRESSION = 500  # characters; a deeply nested one can exhaust Python's parser
METADATA = "configs/metadata.json"  # the only config that may have addresses of web pages in it
ADDRESS = re.compile(r"://|:/?$|^[\\/]{2}|^[\\/]$")
REFERENCES = "__local_refs"  # what MONAI makes of @id in an expression: __local_refs['id']
PLAIN_NODES = (  # whose parts alone decide
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Add, ast.Mult),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.IfExp, ast.List, ast.Tuple),
    *(ast.Load, ast.keyword),
)


def check_config(bundle: Path, file: str) -> None:
    """Raise `BadInput` unless all that a JSON config names and evaluates is on the allow-list.

    Args:
        bundle: the bundle's folder.
        file: path of the config inside it.
    """
    try:
        # ASCII: MONAI opens configs in the encoding of the machine, where other bytes may end a string elsewhere
        config = json.loads((bundle / file).read_bytes().decode("ascii"), object_pairs_hook=_without_duplicates)
        if not isinstance(config, dict):
            raise BadInput(f"found a {type(config).__name__}, expected a JSON object.")
        _check_value(bundle, config, links=file == METADATA)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}: found no readable JSON ({error}), expected a config in ASCII.") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return ``pairs`` as a dict; of a key that comes twice, readers take one or the other."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} comes twice")
    return dict(pairs)


def _check_value(bundle: Path, value: Any, links: bool) -> None:
    """Check a value of a config and everything in it; ``links`` tells whether it may have addresses in it."""
    if isinstance(value, dict):
        for key, part in value.items():
            # "network_def#_target_" sets the target of another section, in another file even
            name = ReferenceResolver.split_id(key, last=True)[1].lstrip("+")
            if name == "_target_":
                _check_target(bundle, part)
            elif name == "_mode_" and part not in MODES:
                raise BadInput(f"found _mode_ {part!r}, expected one of {', '.join(MODES)}.")
            _check_value(bundle, part, links)
    elif isinstance(value, list):
        for part in value:
            _check_value(bundle, part, links)
    elif isinstance(value, str):
        _check_text(value, links)


def _check_target(bundle: Path, target: Any) -> None:
    """Check what a ``_target_`` names: something on the allow-list, or that the bundle's custom/ itself defines."""
    name = target if isinstance(target, str) else ""
    own = re.fullmatch(r"custom\.(\w+)\.(\w+)\.(\w+)", name, re.ASCII)
    if name not in TARGETS and (own is None or own[3] not in _defined(bundle / "custom" / own[1] / f"{own[2]}.py")):
        raise BadInput(
            f"found _target_ {target!r}, expected one in custom/sharing/allow_list.py or one that custom/ defines."
        )


def _defined(module: Path) -> set[str]:
    """Return the classes and functions that a module itself defines: what it imports is not its own."""
    try:
        body = ast.parse(module.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return set()
    return {node.name for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def _check_text(text: str, links: bool) -> None:
    """Check a string of a config: plain text, a reference, or an expression."""
    text = ReferenceResolver.normalize_id(text)
    if text.startswith("%"):
        raise BadInput(f"found {text!r}, which includes other text or another file, expected no % there.")
    # such ids are filled in with the names of sections, which would become part of an expression
    if ConfigParser.relative_id_prefix.search(text):
        raise BadInput(f"found the relative reference {text!r}, expected references from the config's root.")
    if text.startswith("$") and text[1:] not in IMPORTS:
        check_expression(text)
    elif text.startswith("@_meta_"):
        raise BadInput(f"found the reference {text!r}, expected none to {METADATA}.")
    elif not links and _is_address(text):
        raise BadInput(f"found {text!r}, which is or begins an address, expected folders and files of this machine.")


def _is_address(text: str) -> bool:
    """Return whether a text is an address on a network, or a part from which one could be put together.

    TensorBoard's writer takes ``ftp://...`` for a folder, and would send there whatever is logged; Windows takes
    ``//machine/share``, with slashes of either kind, and would log in there.
    """
    return ADDRESS.search(text) is not None


def check_expression(text: str) -> None:
    """Raise `BadInput` unless every part of an expression (with its ``$``) is on the allow-list."""
    if len(text) > LONGEST_EXPRESSION:
        raise BadInput(f"found an expression of {len(text)} characters, expected at most {LONGEST_EXPRESSION}.")
    # MONAI fills references into the text of the expression: what is checked is what it evaluates then
    references = dict.fromkeys(ReferenceResolver.match_refs_pattern(text))
    code = ReferenceResolver.update_refs_pattern(text, references)[1:]
    try:
        tree = ast.parse(code, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadInput(f"found {text!r}, expected one expression or one of {', '.join(IMPORTS)}.") from None
    refused = _first_refused(tree, frozenset())
    if refused is not None:
        part = ast.unparse(refused) if isinstance(refused, ast.expr) else type(refused).__name__
        raise BadInput(
            f"found {part!r} in the expression {text!r}, expected only what custom/sharing/allow_list.py lists."
        )


def _first_refused(node: ast.AST, arguments: frozenset[str]) -> ast.AST | None:
    """Return the first part of a syntax tree that is not allowed; ``arguments`` are those of a lambda around it."""
    children = list(ast.iter_child_nodes(node))
    match node:
        case ast.Constant(value=str(value)) if "$" in value or "%" in value:
            return node  # code for a parser that comes after this one
        case ast.Constant(value=str(value)) if _is_address(value) and value != "cuda:":
            return node
        case ast.Constant():
            return None
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(section))) if name == REFERENCES:
            return node if section.startswith("_meta_") else None
        case ast.Subscript(value=owner, slice=ast.Constant(value=name)) if ast.unparse(owner) == "os.environ":
            return None if name in ENVIRONMENT else node
        case ast.Name(id=name) if name in arguments:
            return None
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str())) if name in arguments:
            return None
        case ast.Name() | ast.Attribute() if ast.unparse(node) in NAMES:
            return None
        case ast.Attribute(value=owner, attr=name) if name in MEMBERS:
            children = [owner]
        case ast.Call(func=ast.Name() | ast.Attribute() as function) if ast.unparse(function) not in arguments:
            only = ARGUMENTS.get(ast.unparse(function))
            if only is not None and (node.args or not {keyword.arg for keyword in node.keywords} <= only):
                return node
        case ast.Lambda(args=ast.arguments(args=[ast.arg(arg=name)]) as given, body=body) if ast.unparse(given) == name:
            arguments, children = arguments | {name}, [body]
        case _ if not isinstance(node, PLAIN_NODES):
            return node
    return next((refused for child in children if (refused := _first_refused(child, arguments)) is not None), None)
