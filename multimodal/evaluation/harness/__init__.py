"""Plug-ins for the evaluation harnesses that others use: lm-eval and lmms-eval."""
