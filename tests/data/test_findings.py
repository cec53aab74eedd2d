"""The table and the JSON of a check."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from custom.data.findings import ERROR, UNUSABLE, WARNING, Examined, of_each_study, summary, table, warnings_of_custom
from custom.data.study import Study


def item(folder: str) -> dict:
    name = folder.rsplit("/", 1)[-1]
    return {"id": name, "image": Study(name, {"flair": Path(f"{folder}/{name}_flair.nii.gz")}, None, None)}


def test_a_warning_goes_to_the_study_that_it_names_and_others_to_the_dataset():
    items = [item("/d/study1"), item("/d/study10"), {"id": "study2", "error": "it is broken."}]
    studies = [Examined(one["id"]) for one in items]
    with warnings_of_custom() as noticed:
        logger = logging.getLogger("custom.data.study")
        logger.warning("%s: %s", "/d/study10/study10_flair.nii.gz", "no sform")
        logger.warning("The study %s has no t2", "/d/study1")
        logger.warning("%s: not part of a study and ignored: x", "/d")
    of_all = of_each_study(noticed, items, studies)
    assert [[finding.text for finding in one.findings] for one in studies] == [
        ["The study /d/study1 has no t2"],
        ["/d/study10/study10_flair.nii.gz: no sform"],
        [],
    ]
    assert [one.text for one in of_all] == ["/d: not part of a study and ignored: x"]
    assert studies[1].findings[0].check == "geometry"


def test_warnings_are_collected_and_not_printed(caplog, capfd):
    with warnings_of_custom() as noticed:
        logging.getLogger("custom.data.load").warning("once")
    logging.getLogger("custom.data.load").warning("after")
    assert [record.getMessage() for record in noticed] == ["once"]
    assert [record.getMessage() for record in caplog.records] == ["after"]


def test_the_table_lists_errors_first_in_columns():
    one, other = Examined("a"), Examined("study2")
    one.add(WARNING, "mask", "a has an empty mask.")
    other.add(ERROR, UNUSABLE, "It is truncated.")
    assert table([*one.findings, *other.findings]).splitlines() == [
        "error    cannot be used  study2  It is truncated.",
        "warning  mask            a       a has an empty mask.",
    ]
    told = json.loads(json.dumps(summary([one, other], [])))
    assert told["studies"] == 2 and told["usable"] == 1
    assert [each["usable"] for each in told["results"]] == [True, False]
    assert told["results"][1]["findings"][0]["text"] == "It is truncated."
