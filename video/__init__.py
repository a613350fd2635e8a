"""Clips: frames, temporal aggregator, video cross-attention, data filters (paper section 7)."""
