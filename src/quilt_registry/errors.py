"""The ways the registry says no. Each is raised with one sentence for people and turned into an answer at the edge.

Anything else that is raised is a bug: the edge answers 500 and the detail goes to the log only.
"""


class Refusal(Exception):
    """Base of all refusals. `status` is the HTTP status it is answered with."""

    status = 500
    headers: dict[str, str] | None = None  # that go with the answer

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class Invalid(Refusal):
    """What was sent breaks a rule."""

    status = 400


class SignInNeeded(Refusal):
    """Nobody, or nobody that the registry knows, is asking."""

    status = 401


class Forbidden(Refusal):
    """Known to exist, but not allowed."""

    status = 403


class NotFound(Refusal):
    """Does not exist, or may not be seen: the same to whoever asks."""

    status = 404


class Conflict(Refusal):
    """Somebody was first."""

    status = 409


class TooLarge(Refusal):
    """Beyond a bound."""

    status = 413


class RangeNotSatisfiable(Refusal):
    """A byte range beyond the end of an object of `size` bytes."""

    status = 416

    def __init__(self, size: int):
        super().__init__(f"The object has {size} bytes.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class TooMany(Refusal):
    """More often than is allowed; the same request may work after `wait` seconds."""

    status = 429

    def __init__(self, message: str, wait: int):
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, wait))}


class NotOffered(Refusal):
    """Switched off on this registry."""

    status = 501


class Unavailable(Refusal):
    """The database or the object store does not answer; the same request may work in a moment."""

    status = 503


class StoreFull(Unavailable):
    """No room left for objects."""

    status = 507
