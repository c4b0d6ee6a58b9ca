"""Virtual devices: boards that behave like the real ones, for developing and testing without any at hand."""
