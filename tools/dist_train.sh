#!/usr/bin/env bash
# Train on several processes of this machine:
#   bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py ...]
# On several machines run it on each, with NNODES, NODE_RANK (0, 1, ...), MASTER_ADDR and PORT set.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/launch.sh"
need 2 "$@"
on_machine "$2" train.py "$1" "${@:3}"
