"""Data, tensor and pipeline parallelism (paper section 7.3)."""

from multimodal.training.parallel.strategy import MeshStrategy

__all__ = ["MeshStrategy"]
