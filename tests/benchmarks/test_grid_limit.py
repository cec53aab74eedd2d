"""What resampling to the networks' grid and back costs a true mask."""

from __future__ import annotations

import json

from benchmarks import grid_limit
from custom.data.phantom import make_study


def test_a_coarser_grid_costs_more_and_small_regions_most(tmp_path, capsys):
    make_study(tmp_path, "a", seed=1, shape=(60, 60, 40), spacing=(4, 4, 4))
    (tmp_path / "list.json").write_text(json.dumps({"training": [], "testing": [{"image": "a"}]}))
    grid_limit.main(str(tmp_path), str(tmp_path / "list.json"), spacings=[4, 8])
    head, _, fine, coarse = capsys.readouterr().out.splitlines()
    assert head == "| spacing (mm) | WT | lowest | TC | lowest | ET | lowest |"
    fine, coarse = ([float(value) for value in row.strip("| ").split(" | ")[1::2]] for row in (fine, coarse))
    assert all(value > 0.9 for value in fine)
    assert coarse[0] > coarse[1] > coarse[2] and all(few < many for few, many in zip(coarse, fine, strict=True))
