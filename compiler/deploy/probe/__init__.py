"""Probe: ask processes, services and the host, and judge nothing."""
