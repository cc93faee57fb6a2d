"""What runs on the GPU machine: standard library only, beside the engines of one stack."""
