"""Validate: a document of the right shape becomes a topology."""
