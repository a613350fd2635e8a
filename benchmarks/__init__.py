"""What is timed, against whom, both sides in one run."""
