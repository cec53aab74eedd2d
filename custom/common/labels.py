"""The labels of a tumour's parts in this project, which are those of BraTS 2017 to 2021: values, names and colours."""

from __future__ import annotations

NECROSIS, OEDEMA, ENHANCING = 1, 2, 4
TUMOUR = 255  # tumour of which the mask does not tell the part
NAMES = {
    NECROSIS: "necrotic and non-enhancing core",
    OEDEMA: "oedema",
    ENHANCING: "enhancing tumour",
    TUMOUR: "whole tumour",
}
# RGB, 0 to 255. Green for oedema is the custom of BraTS's pictures. Readers who confuse red with green can tell blue,
# green and yellow apart.
COLOURS = {
    NECROSIS: (45, 125, 255),
    OEDEMA: (40, 200, 90),
    ENHANCING: (255, 221, 40),
    TUMOUR: (0, 229, 255),
}
