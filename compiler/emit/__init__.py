"""Emit: a plan becomes the files of a bundle; one module an artifact kind."""
