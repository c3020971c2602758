#!/usr/bin/env bash
# Test on a Slurm cluster, torchrun on each node:
#   bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG [CHECKPOINT] [arguments of tools/test.py ...]
# The environment is that of slurm_train.sh.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/launch.sh"
need 3 "$@"
on_slurm "$1" "$2" test.py "${@:3}"
