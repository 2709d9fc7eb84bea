"""What every front of the gateway works with."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request

from veilseg.access.token_file import TokenFile
from veilseg.errors import WrongUsage
from veilseg.gateway.datastore import Datastore
from veilseg.gateway.errors import UnknownObject
from veilseg.gateway.jobs import Jobs
from veilseg.gateway.segmenting import Segmenter
from veilseg.gateway.sessions import Sessions
from veilseg.gateway.settings import Settings
from veilseg.gateway.work import work_folder
from veilseg.serving.visitors import INFER, Visitor, visitor_of


@dataclass(frozen=True)
class Site:
    """Models, images and work of a running gateway.

    Attributes
    ----------
    segmenters : mapping of name to Segmenter
    datastore : Datastore
    sessions : Sessions
    jobs : Jobs
    settings : Settings
    tokens : TokenFile or None
        Who may ask; None: everybody who reaches it.
    work : Path
        Private folder for what lies on disk for a while.
    """

    segmenters: Mapping[str, Segmenter]
    datastore: Datastore
    sessions: Sessions
    jobs: Jobs
    settings: Settings
    tokens: TokenFile | None
    work: Path

    def visitor(self, request: Request) -> Visitor:
        """Who asks. Raises NotAuthenticated or NotPermitted."""
        found = visitor_of(request.headers.get("authorization"), self.tokens)
        request.state.site = found.site
        found.require(INFER)
        return found

    def segmenter(self, name: str) -> Segmenter:
        """The model of a name. Raises UnknownObject."""
        if name not in self.segmenters:
            raise UnknownObject("model: no model of that name here")
        return self.segmenters[name]


@contextmanager
def open_site(
    segmenters: Sequence[Segmenter], settings: Settings, tokens: TokenFile | None = None
) -> Iterator[Site]:
    """Make what the fronts need; in the end work is stopped and everything on disk deleted.

    Raises
    ------
    WrongUsage
        If two bundles are of one name.
    OutputNotWritable
        If there is no place for uploads.
    """
    by_name = {one.manifest.name: one for one in segmenters}
    if len(by_name) < len(segmenters):
        raise WrongUsage("--bundle: two are of one name")
    with ExitStack() as open_until_the_end:
        enter = open_until_the_end.enter_context
        work = enter(work_folder(settings.work))
        yield Site(
            by_name,
            Datastore(settings.data),
            enter(Sessions(work, settings.session_s, settings.stored_bytes)),
            enter(Jobs(settings.workers, settings.places)),
            settings,
            tokens,
            work,
        )
