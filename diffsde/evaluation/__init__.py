"""The metrics, and what they compare with."""
