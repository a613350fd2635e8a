"""The benchmarks' metrics, as pure functions of texts: no model, no network, no download."""
