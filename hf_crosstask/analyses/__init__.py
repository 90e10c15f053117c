"""Analyses that need a model: contamination of its training data, and what its states encode."""
