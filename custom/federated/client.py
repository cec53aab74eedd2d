"""The script that NVFlare starts at each hospital in federated training; MONAI trains the bundle in it.

Each round: receive the global weights, train on the hospital's own studies, and send the weights back with the number
of slices they were trained on. Nothing else is sent: no image and no metric.

The weights sent are the optimizer's, not their moving average (EMA). Optimizer state, learning rate schedule and EMA
stay here and continue from round to round.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

import fire
import nvflare.client as flare
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.apis.fl_constant import FLMetaKey


def train(bundle_root: str, rounds: int, local_epochs: int, **options: Any) -> None:
    """Take part in a federated training until the server ends it.

    Args:
        bundle_root: the bundle installed at this hospital.
        rounds: total number of rounds.
        local_epochs: epochs per round.
        options: overrides of ``train.json``, such as ``dataset_dir``.
    """
    flare.init()  # before the studies are read: the server waits for a heartbeat
    sys.path.insert(0, bundle_root)  # for the bundle's custom/: `monai.bundle run` does this, MonaiAlgo does not
    client = make_client(bundle_root, rounds, local_epochs, **options)
    client.initialize({ExtraItems.CLIENT_NAME: flare.get_site_name()})
    trainer: Any = client.trainer
    slices = len(trainer.data_loader.dataset)
    while flare.is_running():
        received = ExchangeObject(weights=flare.receive().params)
        try:
            client.train(received)
            weights = client.get_weights().weights
        except Exception:  # such as a share that is not mounted: this hospital takes part again in the next round
            traceback.print_exc()
            weights = {}  # what NVFlare's FedAvg leaves out of the average
        flare.send(flare.FLModel(params=weights, meta={FLMetaKey.NUM_STEPS_CURRENT_ROUND: slices}))


def make_client(bundle_root: str, rounds: int, local_epochs: int, **options: Any) -> MonaiAlgo:
    """Return the client that trains a bundle round by round on every study; none is held out for validation.

    The learning rate decays over all rounds. For the arguments see `train`.
    """
    epochs = rounds * local_epochs
    # MonaiAlgo sets the trainer's max_epochs to those of one round, after which the schedule would end
    options = {"lr_scheduler#t_total": epochs, **options}
    return MonaiAlgo(
        bundle_root=bundle_root,
        local_epochs=local_epochs,
        send_weight_diff=False,
        train_kwargs={"fold": None, "val_interval": epochs + 1, "max_epochs": epochs, **options},
        config_evaluate_filename=None,
    )


if __name__ == "__main__":
    fire.Fire(train)
