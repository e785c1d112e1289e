"""What both edges know of HTTP."""
