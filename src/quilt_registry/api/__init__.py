"""HTTP APIs for programs: one package for each protocol, and the modules that they share."""
