#!/usr/bin/env bash
# Train on a Slurm cluster, torchrun on each node:
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py ...]
# GPUS (8) processes in all, GPUS_PER_NODE (8, or GPUS if fewer) on a node, CPUS_PER_TASK (5) for
# each; GRES is what a node is asked for (gpu:GPUS_PER_NODE; empty for none); SRUN_ARGS go to srun.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/launch.sh"
need 4 "$@"
on_slurm "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
