"""Model: what a model's config.json says, and what follows from it for memory."""
