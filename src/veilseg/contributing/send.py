"""``veilseg contribute``: shard by shard, from where it stopped."""

from collections.abc import Callable

from veilseg.client.projects import ProjectClient
from veilseg.contributing.plan import Plan
from veilseg.contribution import encode_shard

Report = Callable[[int, int], None]


def contribute(plan: Plan, client: ProjectClient, report: Report) -> str:
    """Send what the service does not have yet, and say that all is there.

    Parameters
    ----------
    plan : Plan
    client : ProjectClient
    report : callable
        Called with (pairs sent, pairs).

    Returns
    -------
    str
        The contribution's key.

    Raises
    ------
    ServerUnreachable, ServerRefused, InvalidAnswer
        As :class:`~veilseg.client.projects.ProjectClient`. What was sent stays; called again, it
        goes on.

    Leaks
    -----
    To the server: the pairs, as the scheme says; how many, and which site they are of.
    """
    key = plan.key()
    there = client.begin(key, plan.expected.client_digest, plan.shards, plan.pairs)
    missing = [number for number in range(plan.shards) if number not in there]
    size = plan.expected.pairs_per_shard
    report(min(len(there) * size, plan.pairs), plan.pairs)
    if missing:
        for number, pairs in plan.made(missing[0]):
            if number not in there:
                client.put_shard(key, number, encode_shard(pairs))
            report(min((number + 1) * size, plan.pairs), plan.pairs)
    client.complete(key)
    return key
