"""Untrusted bytes to something that a page can show. Pure functions, which helper processes run (`offload.py`)."""
