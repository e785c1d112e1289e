"""Manifests: pure functions over trees and pages, which helper processes can run."""
