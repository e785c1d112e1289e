"""The object store: a bucket or a directory, and presigned URLs to its objects."""
