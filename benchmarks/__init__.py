"""Benchmarks of the hot paths (shared design, §6) on a fresh embedded registry: `make bench`."""
