"""Where objects lie: a bucket or a directory, and signed URLs to them."""
