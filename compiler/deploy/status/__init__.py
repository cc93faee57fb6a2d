"""Status: what a deployment does right now."""
