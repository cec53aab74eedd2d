"""The error for all invalid user input, shown as one sentence."""

from __future__ import annotations

import sys
from types import TracebackType


class BadInput(ValueError):
    """Invalid input. The message is one sentence with the file, what was found and what was expected.

    Attributes:
        status: the exit status of the project's own commands.
    """

    status = 2


class StudiesFailed(BadInput):
    """Some studies of a batch could not be used; the others are done."""

    status = 1


def find_bad_input(error: BaseException | None) -> BadInput | None:
    """Return the `BadInput` that caused ``error``, or None; MONAI's transforms wrap the errors that they raise."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BadInput):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _print_bad_input(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print only the message of a `BadInput`; pass any other error to the previous hook."""
    bad_input = find_bad_input(error)
    if bad_input is None:
        _previous_hook(kind, error, trace)
    else:
        print(f"Error: {bad_input}", file=sys.stderr)


# Otherwise `python -m monai.bundle run` prints a traceback of some fifty lines, in which the message is easily missed.
# The interpreter still exits with status 1 after the hook.
if getattr(sys.excepthook, "__name__", "") != _print_bad_input.__name__:
    _previous_hook = sys.excepthook
    sys.excepthook = _print_bad_input
