"""Colours of the parts of a tumour, the same in every picture and viewer."""

from __future__ import annotations

from custom.data.label_scheme import ENHANCING, NECROSIS, OEDEMA, TUMOUR

# RGB, 0 to 255. Green for oedema is the custom of BraTS's pictures. Readers who confuse red with green can tell blue,
# green and yellow apart.
COLOURS = {
    NECROSIS: (45, 125, 255),
    OEDEMA: (40, 200, 90),
    ENHANCING: (255, 221, 40),
    TUMOUR: (0, 229, 255),
}
