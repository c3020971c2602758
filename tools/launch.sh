# shellcheck shell=bash
# Sourced by the dist_*.sh and slurm_*.sh scripts: how torchrun is started.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$tools")
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

# need COUNT "$@": unless so many arguments are given, show the comment that heads the script.
need() {
    if [ $(($# - 1)) -lt "$1" ]; then
        sed -n '2,/^$/s/^# //p' "$0" >&2
        exit 2
    fi
}

# on_machine PROCESSES SCRIPT ARGUMENT...
on_machine() {
    local meeting=(--standalone)
    if [ "${NNODES:-1}" -gt 1 ] || [ -n "${PORT:-}" ]; then
        meeting=(--nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}"
                 --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}")
    fi
    exec python -m torch.distributed.run "${meeting[@]}" --nproc-per-node="$1" \
        "$tools/$2" "${@:3}" --launcher pytorch
}

# on_slurm PARTITION JOB_NAME SCRIPT ARGUMENT...
on_slurm() {
    local gpus=${GPUS:-8}
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    if ((gpus % per_node)); then
        echo "GPUS ($gpus) must be a multiple of GPUS_PER_NODE ($per_node)" >&2
        exit 2
    fi
    local gres=${GRES-gpu:$per_node} srun_args
    read -ra srun_args <<<"${SRUN_ARGS:-}"
    export PORT=${PORT:-29500} PER_NODE=$per_node
    # shellcheck disable=SC2016 # the node that runs the line expands it
    exec srun --partition="$1" --job-name="$2" ${gres:+--gres="$gres"} \
        --nodes=$((gpus / per_node)) --ntasks-per-node=1 \
        --cpus-per-task=$((per_node * ${CPUS_PER_TASK:-5})) --kill-on-bad-exit=1 \
        "${srun_args[@]}" \
        bash -c 'exec python -u -m torch.distributed.run \
            --nnodes="$SLURM_NNODES" --node-rank="$SLURM_NODEID" --nproc-per-node="$PER_NODE" \
            --master-addr="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)" \
            --master-port="$PORT" "$@"' \
        bash "$tools/$3" "${@:4}" --launcher pytorch
}
