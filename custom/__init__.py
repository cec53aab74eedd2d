"""ReCoSeg: residual-guided brain tumour segmentation. Research software, not a medical device."""

import os

__version__ = "0.5.0"

# MLflow (``--tracking mlflow``) reports its use to its makers unless told not to, which a hospital may not want.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
