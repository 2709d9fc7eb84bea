"""What a request can meet. HTTP statuses are chosen in ``app``.

::

    VeilsegError
    ├── InvalidInput
    │   ├── InvalidRequest      tensors that do not fit the model
    │   ├── UnknownModel        no such name or version
    │   ├── NotLoaded           a model that could not be loaded as asked
    │   ├── BodyTooLarge        as sent, or once decompressed
    │   ├── BodyUnreadable      compressed data that is damaged
    │   └── UnknownEncoding     a content encoding that is not spoken here
    └── ModelError            the request is sound, the model is not
        ├── ModelNotReady       it failed its self-test
        ├── DeadlinePassed      its turn came too late
        ├── Draining            the server is about to end
        └── Busy                it has more to do than it takes on
            ├── TooManyWaiting  its queue is full
            └── TooManyRequests a site asks more often than it may
"""

from veilseg.errors import InvalidInput, VeilsegError


class InvalidRequest(InvalidInput):
    """Tensors that do not fit the model, or hold values that are no numbers."""


class UnknownModel(InvalidInput):
    """No model of that name, or not in that version."""


class NotLoaded(InvalidInput):
    """A model that could not be loaded or unloaded as asked."""


class BodyTooLarge(InvalidInput):
    """A body beyond the limit, as it came or once decompressed."""


class BodyUnreadable(InvalidInput):
    """A compressed body that is cut short or damaged."""


class UnknownEncoding(InvalidInput):
    """A content encoding other than gzip, deflate and identity."""


class ModelError(VeilsegError):
    """A sound request could not be answered."""


class ModelNotReady(ModelError):
    """The model failed its self-test or could not be loaded."""


class DeadlinePassed(ModelError):
    """The request's time was over before its turn came."""


class Draining(ModelError):
    """The server ends what runs and takes nothing more."""


class Busy(ModelError):
    """To be asked again later.

    Attributes
    ----------
    retry_after_s : float
        When that is worth trying.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyWaiting(Busy):
    """The model's queue is full."""


class TooManyRequests(Busy):
    """A site asks more often than it may."""
