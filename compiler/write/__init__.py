"""Write: files and folders put in place by one rename, whole or not at all."""
