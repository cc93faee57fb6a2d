"""What touches a host: the environments that stacks run in."""
