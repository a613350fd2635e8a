#!/usr/bin/env bash
# A training over nodes by torchrun. On each of them, with its own NODE from 0:
#
#   NODES=4 NODE=0 HEAD=first-node:29500 configs/launch/torchrun.sh --config configs/image/pretrain-70b.yaml
#
# Run again, it goes on where the run stopped. PROCESSES is the number of GPUs of a node.
set -euo pipefail
: "${NODES:=1}" "${NODE:=0}" "${PROCESSES:=8}" "${HEAD:=127.0.0.1:29500}" "${PYTHON:=python}"

# When a collective hangs, what each process waited for is written beside the run.
export TORCH_NCCL_TRACE_BUFFER_SIZE="${TORCH_NCCL_TRACE_BUFFER_SIZE:-2000}"
export TORCH_NCCL_DUMP_ON_TIMEOUT="${TORCH_NCCL_DUMP_ON_TIMEOUT:-1}"
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-8}"

exec "$PYTHON" -m torch.distributed.run \
  --nnodes "$NODES" --node-rank "$NODE" --nproc-per-node "$PROCESSES" \
  --master-addr "${HEAD%:*}" --master-port "${HEAD##*:}" \
  -m multimodal.cli fit "$@" \
  --trainer.num_nodes "$NODES" --trainer.devices "$PROCESSES" --resume
