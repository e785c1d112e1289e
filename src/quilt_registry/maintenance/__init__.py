"""Background tasks (scrubbing of objects, deletion of expired rows) and the comparison of database and store."""
