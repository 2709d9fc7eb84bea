"""What a PACS can answer with.

::

    VeilsegError
    ├── InvalidInput
    │   └── Rejected            the PACS does not take this segmentation, or has no such series
    └── ServerError
        ├── ServerUnreachable   it is away
        └── ServerRefused       it lets this site not in, or is not well
"""

from veilseg.errors import InvalidInput


class Rejected(InvalidInput):
    """The PACS does not take this segmentation, or does not have this series."""
