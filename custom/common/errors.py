"""The error for all invalid user input, shown as one sentence."""

from __future__ import annotations

import sys
from types import TracebackType


class BadInput(ValueError):
    """Invalid input. The message is one sentence with the file, what was found and what was expected.

    Characters that cannot be printed become blanks: in the name of a folder they could forge lines of a log.

    Attributes:
        status: the exit status of the project's own commands.
    """

    status = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(in_one_line(message))


class StudiesFailed(BadInput):
    """Some studies of a batch could not be used; the others are done."""

    status = 1


def in_one_line(text: str) -> str:
    """Return a text without line breaks, escape sequences and other characters that cannot be printed."""
    # bytes of a file name that are not UTF-8 are kept: they name the file
    kept = (letter if letter.isprintable() or "\udc80" <= letter <= "\udcff" else " " for letter in str(text))
    return " ".join("".join(kept).split())


def find_bad_input(error: BaseException | None) -> BadInput | None:
    """Return the `BadInput` that caused ``error``, or None; MONAI's transforms wrap the errors that they raise."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BadInput):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def reason_of(error: BaseException) -> str:
    """Return why something failed, in one line: the message of the `BadInput`, or the type and message of the cause."""
    bad_input = find_bad_input(error)
    if bad_input is not None:
        return str(bad_input)
    while error.__cause__:  # MONAI's own error names only the transform that failed
        error = error.__cause__
    return in_one_line(f"{type(error).__name__}: {error}")


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
