"""The picture of a plan: what it shows, where, and in which format."""
