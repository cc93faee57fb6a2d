"""Rules: one module each; `tables` lists them."""
