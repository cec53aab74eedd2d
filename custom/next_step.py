"""The last line of a training: where its weights are, and the command that comes next."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from ignite.engine import Events

from custom.errors import BadInput

logger = logging.getLogger(__name__)


class NextStep:
    """Say in one line, when a training is over, where its weights are and what to do with them.

    Args:
        folder: where the training's `CheckpointSaver`s write the best weights, ``model.pt``, and the last ones,
            ``model_final.pt``.
        evaluator: the validation of the training, which knows whether there are best weights.
        bundle_root: the bundle's folder.
        step: what comes next, "install" the weights in the bundle or "evaluate" them.

    Raises:
        BadInput: the step is another.
    """

    def __init__(self, folder: str, evaluator: Any, bundle_root: str, step: str) -> None:
        if step not in ("install", "evaluate"):
            raise BadInput(f"The next step is {step!r}, expected install or evaluate.")
        self.folder = Path(folder)
        self.evaluator = evaluator
        self.bundle_root = Path(bundle_root)
        self.step = step

    def attach(self, trainer: Any) -> None:
        """Attach it to ``trainer``, after all that writes weights."""
        trainer.add_event_handler(Events.COMPLETED, self)

    def __call__(self, trainer: Any) -> None:
        """Write the line to the log."""
        state = self.evaluator.state
        weights, kind = self.folder / "model_final.pt", "The last weights (nothing was validated)"
        if state.best_metric_epoch > 0:
            weights = self.folder / "model.pt"
            kind = (
                f"The best weights ({state.key_metric_name} {state.best_metric:.3f} in epoch {state.best_metric_epoch})"
            )
        purpose, command = self._install(weights) if self.step == "install" else self._evaluate(weights)
        logger.info("%s are in %s. Next, %s: %s", kind, weights, purpose, shlex.join(map(str, command)))

    def _install(self, weights: Path) -> tuple[str, list[object]]:
        return "for the bundle to use them", ["cp", weights, self.bundle_root / "models" / "model.pt"]

    def _evaluate(self, weights: Path) -> tuple[str, list[object]]:
        config = self.bundle_root / "configs" / "evaluate.json"
        command = [_python(), "-m", "monai.bundle", "run", "--config_file", config, "--bundle_root", self.bundle_root]
        command += ["--checkpoint", weights, "--dataset_dir", "STUDIES"]
        return "on STUDIES with masks that were not trained on", command


def _python() -> Path:
    """Return the Python that runs, as a user would call it from here."""
    python = Path(sys.executable)
    return python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
