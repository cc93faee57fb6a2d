"""Diff: what changes from one plan or bundle to another, and what restarts."""
