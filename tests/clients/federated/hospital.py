"""A hospital that sends what a test tells it to, in place of `custom.federated.client`, for NVFlare's simulator."""

import json
import os
import sys

import nvflare.client as flare

options = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
flare.init()
with open(options["dataset_dir"] + "/plan.json") as file:
    plan = json.load(file)  # for each round: what is added to each weight (1 to a counter), and the slices
while flare.is_running():
    received = flare.receive()
    told = plan[received.current_round]
    if told.get("ends"):
        os._exit(1)  # as a process that the system killed
    params = {}  # as after a round that failed
    if not told.get("fails"):
        params = {
            name: value + (float(told["add"]) if value.is_floating_point() else 1)
            for name, value in received.params.items()
        }
    flare.send(flare.FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": told.get("slices")}))
