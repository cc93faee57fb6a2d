"""Resolve: topology and stack become a plan, with every choice made."""
