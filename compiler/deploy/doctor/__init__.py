"""Doctor: this host against a plan, before a start."""
