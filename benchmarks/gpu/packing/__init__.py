"""Pack a stack that brings its own torch: cut to one GPU's code, compressed, in parts."""
