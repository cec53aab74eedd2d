#!/bin/bash
# Segment a folder of studies on several GPUs, one process each, which share the studies and write one table.
#
#   docs/examples/torchrun.sh STUDIES RESULTS                           # the GPUs of this machine
#   NODES=4 HEAD=node01 docs/examples/torchrun.sh STUDIES RESULTS       # started on each of four machines
#
# RESULTS must be a folder that all machines see. For one machine, `recoseg segment --jobs N` is the same.
set -euo pipefail

processes=${PROCESSES:-$(nvidia-smi --list-gpus | wc -l)}
torchrun --nnodes "${NODES:-1}" --nproc-per-node "$processes" --rdzv-backend c10d --rdzv-endpoint "${HEAD:-localhost}:29500" \
    --rdzv-id recoseg -m recoseg segment "$1" -o "$2" --skip-existing --quiet
