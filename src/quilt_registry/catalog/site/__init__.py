"""Pages of the whole site."""
