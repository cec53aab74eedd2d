"""ReCoSeg: residual-guided brain tumour segmentation. Research software, not a medical device."""

import os
import sys

__version__ = "0.6.0"

# MLflow (``--tracking mlflow``) sends usage data to its developers by default, which a hospital may not want.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# A terminal that cannot show a letter of a study's name shows its number; Python would stop.
for _stream in (sys.stdout, sys.stderr):
    if hasattr(_stream, "reconfigure"):
        _stream.reconfigure(errors="backslashreplace")
