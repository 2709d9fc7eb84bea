"""What a request can meet. HTTP statuses are chosen in ``app``.

::

    VeilsegError
    └── InvalidInput
        ├── Unauthorized      no token, an unknown one, or one that has expired
        ├── UnknownObject     nothing of that name that this site may see
        ├── Conflict          it does not go with what is there already
        ├── TooMuch           a site has contributed as much as it may
        └── StorageFull       no room for a shard or a record
    ServerError
        └── DatabaseAway      try again later
"""

from veilseg.errors import InvalidInput, ServerError


class Unauthorized(InvalidInput):
    """No token, an unknown one, or one that has expired."""


class UnknownObject(InvalidInput):
    """Nothing of that name that this site may see; others' objects are no different from none."""


class Conflict(InvalidInput):
    """It does not go with what is there already."""


class TooMuch(InvalidInput):
    """A site has contributed as much as it may."""


class StorageFull(InvalidInput):
    """No room for a shard or a record."""


class DatabaseAway(ServerError):
    """The database does not answer; nothing was registered."""
