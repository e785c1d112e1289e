"""Quilt Registry: a private registry for data packages."""

from importlib.metadata import version

__version__ = version("quilt-registry")
