"""Blocks of recipes: one idea, one file."""
