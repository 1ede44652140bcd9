"""Measuring: small load generators of our own, run by `make bench`."""
