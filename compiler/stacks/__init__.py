"""Stacks: one released set of engine versions, as data."""
