"""Outgoing email: templates, an outbox in the database, and SMTP."""
