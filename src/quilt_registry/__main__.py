"""`python -m quilt_registry` is the command `quilt-registry`."""

from quilt_registry.cli import main

main()
