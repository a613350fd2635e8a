"""Filters for clips with text, before any training sees them (paper section 7.1)."""
