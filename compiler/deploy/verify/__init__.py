"""Verify: prove on the running deployment that LMCache and NIXL do their work."""
