"""Check of a bundle's logging.conf against the allow-list, by its text.

MONAI passes the file to `logging.config.fileConfig`, which evaluates some options, before it reads any config. MONAI's
own check is private, and accepts handlers that write files or send mail.
"""

from __future__ import annotations

import configparser
from pathlib import Path

from custom.common.errors import BadInput
from custom.sharing.allow_list import LOGGING_OPTIONS
from custom.sharing.text import printable


def check_logging(path: Path, file: str) -> None:
    """Raise `BadInput` unless all options of a logging.conf are those for plain lines on the console.

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
                raise BadInput(f"{place}: found {value!r}, expected a value that custom/sharing/allow_list.py permits.")
