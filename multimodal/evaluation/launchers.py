"""Which process this is, and which GPU is its own, as torchrun or SLURM says."""

import os

import torch


def place() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun or SLURM says."""
    for rank, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def own_device(device: str | None) -> str:
    """Where this process runs: of "auto", or nothing, the GPU of its own number on its machine."""
    device, num_gpus = device or "auto", torch.cuda.device_count()
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if device == "auto" and num_gpus and name in os.environ:
            return f"cuda:{int(os.environ[name]) % num_gpus}"
    return device
