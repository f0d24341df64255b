"""Figures of merit, each beside what a true sample of the same size would score."""
