#!/bin/bash
# Segment a folder of studies in a Slurm array: each task takes every n-th study.
#
#   sbatch --array=0-49 docs/examples/slurm_array.sh STUDIES RESULTS
#
# After an interruption, or for studies that failed, submit the same again: what is done is skipped.
#SBATCH --job-name=recoseg
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --output=recoseg_%A_%a.log
# For GPUs, also: #SBATCH --gres=gpu:1
set -euo pipefail

studies=$1
# Each task writes to a folder of its own, since not every drive locks a results.csv that many machines write.
results=$2/part_$SLURM_ARRAY_TASK_ID

mapfile -d '' -t all < <(find "$studies" -mindepth 1 -maxdepth 1 -not -name '.*' -print0 | sort -z)
mine=()
for ((number = SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN; number < ${#all[@]}; number += SLURM_ARRAY_TASK_COUNT)); do
    mine+=("${all[number]}")
done
if ((${#mine[@]} == 0)); then
    echo "No study is left for task $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT."
    exit 0
fi
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
recoseg segment "${mine[@]}" -o "$results" --skip-existing --quiet
