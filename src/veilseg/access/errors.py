"""What goes wrong with tokens and with the record of their use.

::

    VeilsegError
    ├── InvalidInput
    │   └── InvalidTokens       a tokens file that is missing, damaged or open to others
    ├── AccessDenied            who asked may not have what was asked for
    │   ├── NotAuthenticated    no token, or none that is valid now
    │   └── NotPermitted        a valid token without the role
    ├── AuditLogFailed          an entry that could not be written
    └── IntegrityError
        └── AuditLogBroken      a log that was changed after it was written

No message quotes a token.
"""

from veilseg.errors import IntegrityError, InvalidInput, VeilsegError


class InvalidTokens(InvalidInput):
    """A tokens file that is missing, damaged or open to others."""


class AccessDenied(VeilsegError):
    """Who asked may not have what was asked for."""


class NotAuthenticated(AccessDenied):
    """No token, or none that is valid now."""


class NotPermitted(AccessDenied):
    """A valid token that lacks the role."""


class AuditLogFailed(VeilsegError):
    """An entry of the audit log could not be written."""


class AuditLogBroken(IntegrityError):
    """An audit log that was changed after it was written."""
