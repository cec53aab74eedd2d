"""Hash of everything that a transform's result depends on, besides its input."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.bundle.reference_resolver import ReferenceResolver

REFERENCES = ReferenceResolver._vars  # name by which a function in a config has the config's other settings

# Positions of random generators: a transform with a seed has it among its settings.
STATES = (np.random.RandomState, np.random.Generator, torch.Generator)


def settings_hash(value: Any) -> str:
    """Return the SHA-256 of an object's class and of all that its attributes hold, such as a network's weights.

    Equal settings have one hash in every process. MONAI's `json_hashing` and `pickle_hashing` do not serve: the first
    falls back to the classes' names, the second depends on the generators and on which equal texts are one object.

    Raises:
        TypeError: an attribute is of a kind whose content cannot be told.

    Example:
        >>> settings_hash(partial(sorted, key=len)) == settings_hash(partial(sorted, key=len))
        True
        >>> settings_hash(partial(sorted, key=len)) == settings_hash(partial(sorted, key=str))
        False
    """
    digest = hashlib.sha256()
    _add(digest, value, [])
    return digest.hexdigest()


def _add(digest: Any, value: Any, around: list[Any]) -> None:
    """Add ``value`` to ``digest``; ``around`` are the objects that hold it, one in another."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        _add_text(digest, f"{type(value).__name__} {value!r}")
    elif any(value is each for each in around):  # an object that holds itself
        _add_text(digest, f"around {[value is each for each in around].index(True)}")
    else:
        _add_object(digest, value, [*around, value])


def _add_object(digest: Any, value: Any, around: list[Any]) -> None:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    parts: Any
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().as_subclass(torch.Tensor).contiguous()
        _add_text(digest, f"{kind} {plain.dtype} {tuple(plain.shape)}")
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
        return
    if isinstance(value, np.ndarray):
        kind = f"{kind} {value.dtype} {value.shape}"
        parts = [value.tolist() if value.dtype.hasobject else value.tobytes()]
    elif isinstance(value, STATES):
        parts = []
    elif isinstance(value, Mapping):
        parts = [part for pair in value.items() for part in pair]
    elif isinstance(value, Set):
        parts = sorted(map(repr, value))
    elif isinstance(value, Sequence) and not isinstance(value, range):
        parts = list(value)
    elif isinstance(value, partial):
        parts = [value.func, value.args, value.keywords]
    elif inspect.ismethod(value):
        parts = [value.__func__, value.__self__]
    elif inspect.isfunction(value):
        kind, closure = f"{value.__module__}.{value.__qualname__}", inspect.getclosurevars(value)
        references = closure.globals.get(REFERENCES, {})
        used = [each for each in value.__code__.co_consts if isinstance(each, str) and each in references]
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__, closure.nonlocals]
        parts += [references[each] for each in used]
    elif inspect.iscode(value):
        kind, parts = "code", [value.co_code, value.co_consts, value.co_names]
    elif inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
        kind, parts = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}", []
    elif hasattr(value, "__dict__"):
        parts = [part for pair in vars(value).items() for part in pair]
    elif " at 0x" not in repr(value):  # of torch.dtype, re.Pattern and the like
        parts = [repr(value)]
    else:
        raise TypeError(f"{value!r} is a setting whose content cannot be told, expected data, functions and objects.")
    _add_text(digest, f"{kind} {len(parts)}")
    for part in parts:
        _add(digest, part, around)


def _add_text(digest: Any, text: str) -> None:
    digest.update(f"{len(text)} {text};".encode())
