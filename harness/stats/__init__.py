"""How numbers are earned: pure functions from raw samples to estimates with intervals."""
