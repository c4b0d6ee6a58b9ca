"""Counting: what an aarch64 program executes on a processor model, and how many cycles its loops would take."""
