"""Other people's evaluation harnesses, driving our models."""
