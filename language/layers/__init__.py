"""Transformer parts that every model of the project shares."""
