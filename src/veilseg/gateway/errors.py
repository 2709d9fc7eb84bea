"""What a request to the gateway can meet. HTTP statuses are chosen in ``http_errors``.

::

    VeilsegError
    └── InvalidInput
        ├── InvalidRequest      a form or parameter that cannot be used
        ├── UnknownObject       no such model, image or session of this user
        ├── NotOffered          a part of the protocol that segments nothing
        ├── StorageFull         no room for an upload
        └── Cancelled           nobody waits for the result any more

What other services raise as well (too large, busy, too late) is in ``serving.errors``.
"""

from veilseg.errors import InvalidInput


class InvalidRequest(InvalidInput):
    """A form or parameter that cannot be used."""


class UnknownObject(InvalidInput):
    """No such model, image or session; others' sessions are no different from none."""


class NotOffered(InvalidInput):
    """A part of the protocol that is not for segmenting: training, sampling, keeping labels."""


class StorageFull(InvalidInput):
    """No room for an upload."""


class Cancelled(InvalidInput):
    """Nobody waits for the result any more."""
