"""Load: YAML text, the files it extends and --set become one document with positions."""
