"""Measures the hot paths of the shared design (§6) on a fresh embedded registry: `make bench`."""
