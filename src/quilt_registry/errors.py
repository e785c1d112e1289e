"""Errors that become HTTP responses. Each has a message for users.

Any other exception is a bug: the response is 500, and the details go to the log only.
"""


class Refusal(Exception):
    """Base class of errors that become HTTP responses with `status`."""

    status = 500
    headers: dict[str, str] | None = None  # of the response

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class Invalid(Refusal):
    """The request is invalid."""

    status = 400


class SignInNeeded(Refusal):
    """The request needs a valid sign-in."""

    status = 401


class Forbidden(Refusal):
    """The caller may not do this."""

    status = 403


class NotFound(Refusal):
    """Something does not exist, or the caller may not know that it does."""

    status = 404


class TooSlow(Refusal):
    """The request body does not arrive, or too slowly."""

    status = 408

    def __init__(self, message: str):
        super().__init__(message)
        self.headers = {"Connection": "close"}


class Conflict(Refusal):
    """The request contradicts the current state, for example because a name is taken."""

    status = 409


class TooLarge(Refusal):
    """The request exceeds a size limit."""

    status = 413


class RangeNotSatisfiable(Refusal):
    """A byte range begins after the end of an object of `size` bytes."""

    status = 416

    def __init__(self, size: int):
        super().__init__(f"The object has {size} bytes.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class TooMany(Refusal):
    """A rate limit is exceeded. The same request may succeed after `wait` seconds."""

    status = 429

    def __init__(self, message: str, wait: int):
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, wait))}


class ClientLeft(Refusal):
    """The client closed the connection before its request was complete. The response is not sent.

    The status is the one that nginx logs for this.
    """

    status = 499


class NotOffered(Refusal):
    """A setting of this registry disables the feature."""

    status = 501


class Unavailable(Refusal):
    """The database or the object store does not respond. The same request may succeed later."""

    status = 503


class Overloaded(Unavailable):
    """The registry has too much to do. The same request may succeed after some seconds."""

    def __init__(self, message: str):
        super().__init__(message)
        self.headers = {"Retry-After": "10"}


class StoreFull(Unavailable):
    """The object store has no space left."""

    status = 507
