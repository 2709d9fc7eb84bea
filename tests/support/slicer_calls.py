"""Run by the environment of Slicer's own client: calls from standard input, results to output.

Each call is a list, the name of a method and its arguments. ``"SESSION"`` stands for the session
that was made last.
"""

import json
import sys

from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException


def main() -> None:
    wanted = json.load(sys.stdin)
    session, results = "", []
    for name, *arguments in wanted["calls"]:
        # A client for each call, as Slicer's module makes them.
        client = MONAILabelClient(wanted["url"], wanted["folder"], client_id="a-user")
        client.update_auth(wanted["token"])
        try:
            found = getattr(client, name)(
                *[session if one == "SESSION" else one for one in arguments]
            )
        except MONAILabelClientException as error:
            results.append({"refused": error.msg})
            continue
        if name == "create_session":
            session = found["session_id"]
        results.append({"found": found})
    json.dump(results, sys.stdout)


main()
