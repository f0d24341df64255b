"""The metrics, and the data and references that they compare with."""
