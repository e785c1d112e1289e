"""Data packages: versioned, content-addressed trees of files and tables."""
