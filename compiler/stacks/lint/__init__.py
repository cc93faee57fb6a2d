"""Check the files of stacks, tiers and relations, for those who write them."""
