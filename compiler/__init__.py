"""Compile an LMCache and vLLM deployment profile into the files that start it."""

__version__ = "0.1.0"
