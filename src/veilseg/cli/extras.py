"""Parts that an install may be without."""

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec

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


def require_installed(extra: str, what: str, *modules: str) -> None:
    """Say now what is missing that only a process started later would import.

    Parameters
    ----------
    extra, what : str
        As for :func:`needing`.
    *modules : str

    Raises
    ------
    MissingDependency
        If one of them is not installed.
    """
    for name in modules:
        if find_spec(name) is None:
            raise MissingDependency(f"{what} {name}: pip install 'veilseg[{extra}]'")
