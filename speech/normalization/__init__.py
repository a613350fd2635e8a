"""Text normalization: written text into spoken text (section 8.2)."""
