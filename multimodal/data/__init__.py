"""Shards in, batches out: deterministic order, mixtures, packing, resumable state."""
