"""Pure functions on trees and stored pages, which helper processes can run (`offload.py`)."""
