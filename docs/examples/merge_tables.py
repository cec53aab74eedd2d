"""Print one table of the results.csv of several folders, such as those of a Slurm array.

python docs/examples/merge_tables.py RESULTS/part_*/results.csv > RESULTS/results.csv
"""

import csv
import sys
from pathlib import Path

rows = []
for file in sys.argv[1:]:
    with Path(file).open(newline="", encoding="utf-8-sig") as stream:
        rows += csv.DictReader(stream)
columns = dict.fromkeys(name for row in rows for name in row)  # a part without measures has fewer
writer = csv.DictWriter(sys.stdout, list(columns), restval="", lineterminator="\n")
writer.writeheader()
writer.writerows(rows)
