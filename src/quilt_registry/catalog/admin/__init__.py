"""The pages for admins."""
