"""The body of a request for objects by their names."""

from __future__ import annotations

import msgspec

from quilt.manifest import is_object_name
from quilt_registry import bodies
from quilt_registry.bodies import Packed
from quilt_registry.errors import Invalid, TooLarge

# Released clients name all missing objects of what they materialize: a large package, but not the largest.
MAX_NAMES = 100_000
MAX_BYTES = 16_000_000  # of a body: more than twice as many names, so that who sends too many is told so

_decoder = msgspec.json.Decoder(list[str])


def parse(packed: Packed) -> bytes:
    """Return the distinct digests of a list of object names, sorted and joined. Raise Invalid, TooLarge."""
    requested: list[str] = bodies.decode(packed, _decoder)
    names = sorted(set(requested))
    for name in names:
        if not is_object_name(name):
            raise Invalid(f"{name!r:.80} is not an object name, which has 64 lower-case hex digits.")
    if len(names) > MAX_NAMES:
        raise TooLarge(
            f"The request names {len(names):,} objects, more than the {MAX_NAMES:,} that one request may name. "
            "Request fewer: materialize one group after the other, or install the package."
        )
    return bytes.fromhex("".join(names))
