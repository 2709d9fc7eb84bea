"""What a request can meet. HTTP statuses are chosen in ``app``.

::

    VeilsegError
    ├── InvalidInput
    │   ├── InvalidRequest      tensors that do not fit the model
    │   ├── UnknownModel        no such name or version
    │   ├── BodyTooLarge        as sent, or once decompressed
    │   ├── BodyUnreadable      compressed data that is damaged
    │   └── UnknownEncoding     a content encoding that is not spoken here
    └── ModelError            the request is sound, the model is not
        ├── ModelNotReady       it failed its self-test
        └── TooManyWaiting      it has more to do than it takes on
"""

from veilseg.errors import InvalidInput, VeilsegError


class InvalidRequest(InvalidInput):
    """Tensors that do not fit the model, or hold values that are no numbers."""


class UnknownModel(InvalidInput):
    """No model of that name, or not in that version."""


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


class TooManyWaiting(ModelError):
    """The model's queue is full."""
