#!/usr/bin/env bash
# A training over nodes by SLURM; partition, account and time are your cluster's:
#
#   sbatch --nodes 4 configs/launch/slurm.sh --config configs/image/pretrain-70b.yaml
#
# A job that is requeued, or submitted again, goes on where the run stopped.
#SBATCH --job-name openherd
#SBATCH --nodes 1
#SBATCH --ntasks-per-node 8
#SBATCH --gpus-per-node 8
#SBATCH --cpus-per-task 12
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --signal SIGTERM@120
#SBATCH --output openherd-%j.log
set -euo pipefail

export TORCH_NCCL_TRACE_BUFFER_SIZE="${TORCH_NCCL_TRACE_BUFFER_SIZE:-2000}"
export TORCH_NCCL_DUMP_ON_TIMEOUT="${TORCH_NCCL_DUMP_ON_TIMEOUT:-1}"
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-8}"

# One task for each GPU: Lightning reads its place from SLURM's variables.
exec srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m multimodal.cli fit "$@" \
  --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" --resume
