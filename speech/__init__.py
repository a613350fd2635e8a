"""Speech: features, encoders, their pre-training, and the adapter into the core (section 8)."""
