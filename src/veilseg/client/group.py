"""Several servers of one model, over which the tiles of an image are spread."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from veilseg.bundle import ClientManifest
from veilseg.client.credentials import Credentials
from veilseg.client.remote import RemoteServer
from veilseg.client.transfer import StillWanted
from veilseg.errors import ServerRefused, ServerUnreachable
from veilseg.payload import Float32Array

# A server that was given up is asked again after this long: it may have been restarted.
AWAY_S: Final = 10.0
# With those that are always made they outlast a server that loads its models anew: 8 to 16 s.
RESTART_RETRIES: Final = 2
# Tiles under way for each server: one is worked on, one is ready for whoever is free first.
TILES_PER_SERVER: Final = 2


class ServerGroup:
    """Servers that host the same model, as one :class:`~veilseg.client.processor.TileProcessor`.

    Each works on a tile of its own. One that cannot be reached within its retries is left out for a
    while and its tile given to another, so that an image is lost only when none is left.

    Parameters
    ----------
    servers : sequence of RemoteServer
        At least one, each used by one thread at a time. One address may be given twice: two tiles
        are then under way to it.

    Leaks
    -----
    To each server: the tiles that it is given, as :class:`~veilseg.client.remote.RemoteServer`
    says; to all of them together what one alone would have seen. A tile that was lost on its way
    has been seen by two.
    """

    def __init__(self, servers: Sequence[RemoteServer]) -> None:
        self._servers = tuple(servers)
        self._free = list(servers)
        self._away: dict[RemoteServer, tuple[float, Exception]] = {}
        self._changed = threading.Condition()

    @property
    def bytes_sent(self) -> int:
        """Bytes of all request bodies."""
        return sum(server.bytes_sent for server in self._servers)

    @property
    def bytes_received(self) -> int:
        """Bytes of all answer bodies."""
        return sum(server.bytes_received for server in self._servers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.close()

    def check(self) -> None:
        """Verify that every server that can be reached hosts the manifest's model.

        Raises
        ------
        ServerUnreachable, ServerRefused
            If none can be used, with the reason of the first.
        InvalidAnswer, BundleIntegrity
            If one of them hosts another model under this name: nothing is sent to any then.
        """
        for server in self._servers:
            try:
                server.check()
            except (ServerUnreachable, ServerRefused) as error:
                self._leave_out(server, error)
        if len(self._away) == len(self._servers):
            raise self._first_reason()

    def __call__(self, tile: Float32Array) -> Float32Array:
        """Have one tile processed by whoever is free. Raises as :meth:`each`.

        Leaks
        -----
        To that server: the tile.
        """
        failed: dict[RemoteServer, Exception] = {}
        while True:
            server = self._taken()
            try:
                answer = server(tile)
            except (ServerUnreachable, ServerRefused) as error:
                self._leave_out(server, error)
                failed.setdefault(server, error)
                # Those that hang come back before the last is given up, in turn and without end.
                if len(failed) == len(self._servers):
                    raise next(iter(failed.values())) from None
                continue
            except BaseException:
                self._give_back(server)
                raise
            self._give_back(server)
            return answer

    def each(self, tiles: Iterable[Float32Array]) -> Iterator[Float32Array]:
        """Answers of tiles, in their order; as many at a time as there are servers.

        Parameters
        ----------
        tiles : iterable of ndarray
            Taken a few ahead.

        Raises
        ------
        ServerUnreachable, ServerRefused
            If no server is left, with the reason of the first that was given up.
        GeometryMismatch, InvalidInput, InvalidAnswer, BundleIntegrity
            As :class:`~veilseg.client.remote.RemoteServer`: another server would not help.

        Leaks
        -----
        To the servers: all tiles, each to one of them unless that one was lost.
        """
        pending: deque[Future[Float32Array]] = deque()
        with ThreadPoolExecutor(len(self._servers)) as threads:
            try:
                for tile in tiles:
                    pending.append(threads.submit(self, tile))
                    if len(pending) == TILES_PER_SERVER * len(self._servers):
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for waiting in pending:
                    waiting.cancel()

    def _taken(self) -> RemoteServer:
        """A server for this thread alone, as soon as there is one."""
        with self._changed:
            while True:
                now = time.monotonic()
                back = [one for one, (since, _) in self._away.items() if now - since >= AWAY_S]
                for server in back:
                    del self._away[server]
                    self._free.append(server)
                if self._free:
                    return self._free.pop(0)
                if len(self._away) == len(self._servers):
                    raise self._first_reason()
                self._changed.wait(AWAY_S)

    def _give_back(self, server: RemoteServer) -> None:
        with self._changed:
            self._free.append(server)
            self._changed.notify_all()

    def _leave_out(self, server: RemoteServer, error: Exception) -> None:
        with self._changed:
            if server in self._free:
                self._free.remove(server)
            self._away[server] = time.monotonic(), error
            self._changed.notify_all()

    def _first_reason(self) -> Exception:
        return next(iter(self._away.values()))[1]


@contextmanager
def connected(
    urls: Sequence[str],
    manifest: ClientManifest,
    timeout_s: float,
    credentials: Credentials | None = None,
    still_wanted: StillWanted | None = None,
) -> Iterator[RemoteServer | ServerGroup]:
    """The server at an address, or those at several as one, found to host the manifest's model.

    While one waits to try again, ``still_wanted`` is called; what it raises ends that.

    Raises
    ------
    InvalidInput
        If an address or the credentials cannot be used.
    ServerUnreachable, ServerRefused, InvalidAnswer, BundleIntegrity
        As their ``check``.
    """
    servers = [
        RemoteServer(
            *(url, manifest),
            timeout_s=timeout_s,
            credentials=credentials,
            still_wanted=still_wanted,
            # Several are not waited for: the others do without the one that is lost.
            more_once_met=RESTART_RETRIES if len(urls) == 1 else 0,
        )
        for url in urls
    ]
    with servers[0] if len(servers) == 1 else ServerGroup(servers) as server:
        server.check()
        yield server
