"""What GPUs can do, by their data sheets."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a GPU can do, by its data sheet."""

    flops: float
    """Dense bfloat16 operations a second."""
    memory: float
    """Bytes."""
    node: int
    """Devices of a node."""
    link: float
    """Bytes a second between two of a node."""
    network: float
    """Bytes a second that a device has to other nodes."""


DEVICES = {
    "h100": Device(flops=989e12, memory=80e9, node=8, link=450e9, network=50e9),
    "h200": Device(flops=989e12, memory=141e9, node=8, link=450e9, network=50e9),
    "a100": Device(flops=312e12, memory=80e9, node=8, link=300e9, network=25e9),
}
