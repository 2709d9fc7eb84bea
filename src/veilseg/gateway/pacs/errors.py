"""What a PACS can answer with.

::

    VeilsegError
    ├── InvalidInput
    │   └── Rejected            the PACS does not take this segmentation, or has no such series
    └── ServerError
        ├── ServerUnreachable   it is away
        └── ServerRefused       it lets this site not in, or is not well
"""

from typing import Final

from veilseg.errors import InvalidInput

# DICOM's status for an object that is there already: it was stored before that was written down.
DUPLICATE: Final = 0x0111


class Rejected(InvalidInput):
    """The PACS does not take this segmentation, or does not have this series."""
