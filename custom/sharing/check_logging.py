"""What a bundle's logging.conf can make Python do, read from its text.

MONAI hands the file to `logging.config.fileConfig`, which evaluates some of its options; it does so before it reads any
config. MONAI's own check of it is private, and lets handlers pass that write files and send mail.
"""

from __future__ import annotations

import ast
import configparser
from pathlib import Path

from custom.common.errors import BadInput
from custom.sharing.allow_list import LOGGING_CLASSES, LOGGING_OPTIONS, LOGGING_STREAMS

FORMATS = ("format", "datefmt")  # the options that are text, with % in it


def check_logging(path: Path, file: str) -> None:
    """Raise `BadInput` unless a logging.conf names only classes of logging, with plain arguments or a standard stream.

    Args:
        path: the file.
        file: its name in the message.
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_bytes().decode("ascii"))
    except (ValueError, configparser.Error) as error:
        message = str(error).replace("\n", " ")
        raise BadInput(
            f"{file}: found no readable sections ({message}), expected a logging config in ASCII."
        ) from error
    for section in (*parser.sections(), parser.default_section):
        for option, value in parser[section].items():
            place = f"{file}: [{section}] {option}"
            if option not in LOGGING_OPTIONS:
                raise BadInput(f"{place}: found an option that is not in custom/sharing/allow_list.py.")
            if option not in FORMATS and "%" in value:
                raise BadInput(f"{place}: found {value!r}, expected no % there.")
            if option == "class" and value not in LOGGING_CLASSES:
                raise BadInput(f"{place}: found {value!r}, expected one of {', '.join(sorted(LOGGING_CLASSES))}.")
            if option == "args" and not _harmless(value):
                raise BadInput(f"{place}: found {value!r}, expected plain values or sys.stdout.")


def _harmless(arguments: str) -> bool:
    """Return whether the syntax tree of ``arguments`` has nothing but plain values and standard streams."""
    try:
        tree = ast.parse(arguments, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return isinstance(tree, ast.Tuple) and all(
        isinstance(part, ast.Constant) or ast.unparse(part) in LOGGING_STREAMS for part in tree.elts
    )
