"""Deployments of this repository on a machine with a GPU: preparing, proving, measuring."""
