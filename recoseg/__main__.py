"""``python -m recoseg`` is the command ``recoseg``."""

from recoseg.command_line import main

main()
