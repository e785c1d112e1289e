"""What programs speak: one folder a protocol, and what the protocols share."""
