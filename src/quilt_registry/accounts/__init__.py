"""User accounts: sign-up, sign-in, sessions, tokens and passwords."""
