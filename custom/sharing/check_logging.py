"""What a bundle's logging.conf can make Python do, read from its text.

MONAI hands the file to `logging.config.fileConfig`, which evaluates some of its options; it does so before it reads any
config. MONAI's own check of it is private, and lets handlers pass that write files and send mail.
"""

from __future__ import annotations

import configparser
from pathlib import Path

from custom.common.errors import BadInput
from custom.sharing.allow_list import LOGGING_OPTIONS
from custom.sharing.text import printable


def check_logging(path: Path, file: str) -> None:
    """Raise `BadInput` unless every option of a logging.conf is one that logs plain lines to the console.

    Args:
        path: the file.
        file: its name in the message.
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_bytes().decode("ascii"))
    except (ValueError, configparser.Error) as error:
        raise BadInput(
            f"{file}: found no readable sections ({printable(error)}), expected a logging config in ASCII."
        ) from error
    for section in (*parser.sections(), parser.default_section):
        for option, value in parser[section].items():
            place = f"{file}: [{section}] {option}"
            if option not in LOGGING_OPTIONS:
                raise BadInput(f"{place}: found an option that is not in custom/sharing/allow_list.py.")
            if not LOGGING_OPTIONS[option].fullmatch(value):
                raise BadInput(f"{place}: found {value!r}, expected what custom/sharing/allow_list.py says of it.")
