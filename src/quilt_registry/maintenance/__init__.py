"""What runs by itself: scrubbing objects, deleting what expired; and the check of all objects."""
