"""Pages of an account: sign-in, sign-up, passwords, sign-in codes."""
