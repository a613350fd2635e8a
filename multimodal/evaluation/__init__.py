"""Benchmarks: official metrics on the files as they are published, predictions that stay."""
