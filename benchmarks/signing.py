"""The time to sign the URLs of a large install, without a server."""

from __future__ import annotations

import time

from benchmarks.table import row
from quilt_registry.storage.signed_urls import LocalSigner, S3Signer

COUNT, ROUNDS = 100_000, 3
BUDGET = 3e-6  # seconds for each URL to a bucket


def run() -> None:
    """Sign as many URLs to a bucket, and to the registry's own directory store."""
    keys = [f"objs/anna/{number:064x}" for number in range(COUNT)]
    bucket = S3Signer("data", "http://127.0.0.1:9000", "us-east-1", "key", "secret", 86_400)
    for name, signer in (("a bucket", bucket), ("a directory", LocalSigner("http://127.0.0.1", b"secret", 86_400))):
        best = min(_time(signer, keys) for _ in range(ROUNDS)) / COUNT
        good, budget = (best <= BUDGET, "≤ 3 µs") if signer is bucket else (None, None)
        row(f"signing for {name}, a URL", "", f"{best * 1e6:.1f} µs", good, budget)


def _time(signer: S3Signer | LocalSigner, keys: list[str]) -> float:
    began = time.perf_counter()
    signer.urls(keys)
    return time.perf_counter() - began
