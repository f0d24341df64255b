"""Comparisons of jobs from their folders: folded seeds, ranks that hold, tables and pictures; reads results only."""
