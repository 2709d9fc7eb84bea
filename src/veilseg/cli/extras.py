"""Parts that an install may be without."""

import contextlib
from collections.abc import Iterator

from veilseg.errors import MissingDependency


@contextlib.contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """A block of imports that only an extra brings.

    Parameters
    ----------
    extra : str
        As in ``pip install 'veilseg[extra]'``.
    what : str
        Begins the line that tells what is missing, as ``tokens need``.

    Raises
    ------
    MissingDependency
        If one of them is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingDependency(f"{what} {error.name}: pip install 'veilseg[{extra}]'") from error
