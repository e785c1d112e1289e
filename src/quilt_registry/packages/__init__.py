"""What the registry does with packages."""
