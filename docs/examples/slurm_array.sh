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

if [[ ! -d $studies ]]; then
    echo "Error: $studies is not a folder, expected one with studies." >&2
    exit 2
fi
step=${SLURM_ARRAY_TASK_STEP:-1}
if ((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN != (SLURM_ARRAY_TASK_COUNT - 1) * step)); then
    echo "Error: --array is a list, whose tasks would not take every study, expected a range such as 0-49." >&2
    exit 2
fi
# Folders and 4-D files, behind links too; other files, such as tables, are no studies.
mapfile -d '' -t all < <(find -H "$studies" -mindepth 1 -maxdepth 1 -not -name '.*' \
    \( -xtype d -o -name '*.nii' -o -name '*.nii.gz' \) -print0 | sort -z)
mine=()
first=$(((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN) / step))
for ((number = first; number < ${#all[@]}; number += SLURM_ARRAY_TASK_COUNT)); do
    mine+=("${all[number]}")
done
if ((${#mine[@]} == 0)); then
    echo "No study is left for task $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT."
    exit 0
fi
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
recoseg segment "${mine[@]}" -o "$results" --skip-existing --quiet
