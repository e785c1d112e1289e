"""The program `quilt-registry`, which is also `python -m quilt_registry`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command, or say what to install if only the client's dependencies are there."""
    try:
        from quilt_registry import cli
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "quilt", "quilt_registry"):  # a part of ours: a bug
            raise
        sys.exit(
            f"quilt-registry: The server is not installed completely: {package} is missing. Run: "
            "pip install 'quilt-registry[server,embedded]'."
        )
    cli.main()


if __name__ == "__main__":
    main()
