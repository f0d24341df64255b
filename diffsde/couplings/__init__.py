"""Couplings: how the points of a batch's two ends, source y and data z, are paired."""
