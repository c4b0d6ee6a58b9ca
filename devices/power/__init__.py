"""Sensors of power."""
