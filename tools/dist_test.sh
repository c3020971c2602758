#!/usr/bin/env bash
# Test on several processes of this machine:
#   bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py ...]
#   bash tools/dist_test.sh CONFIG PROCESSES [...], for a model that brings its weights
# On several machines run it on each, with NNODES, NODE_RANK (0, 1, ...), MASTER_ADDR and PORT set.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/launch.sh"
need 2 "$@"
if [[ $2 =~ ^[0-9]+$ ]]; then
    on_machine "$2" test.py "$1" "${@:3}"
fi
need 3 "$@"
on_machine "$3" test.py "$1" "$2" "${@:4}"
