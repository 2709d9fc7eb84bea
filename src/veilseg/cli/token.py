"""``veilseg token``: who may use a service."""

import sys
from pathlib import Path

from veilseg.access.tokens import Grant, utc_now
from veilseg.cli.extras import needing
from veilseg.errors import OutputNotWritable, WrongUsage
from veilseg.files import written_whole

with needing("server", "tokens need"):
    from veilseg.access import token_file

# What the services of this project ask for.
ROLES = ("infer", "metrics", "admin")


def issue(file: Path, site: str, roles: list[str], days: float, out: Path | None) -> None:
    """Make a token and print it, or write it to a private file."""
    for role in roles:
        if role not in ROLES:
            raise WrongUsage(f"--role {role}: choose {', '.join(ROLES)}")
    _require_new(out)
    token, grant = token_file.add(file, site, roles, days)
    _hand_over(token, out)
    _tell(f"{file}: {_described(grant)}")


def rotate(file: Path, name: str, grace_hours: float, out: Path | None) -> None:
    """Make a token in the place of one that goes on for some hours."""
    _require_new(out)
    token, new, old = token_file.rotate(file, name, grace_hours)
    _hand_over(token, out)
    _tell(f"{file}: {_described(new)}; {old.id} ends {old.expires:%Y-%m-%d %H:%M} UTC")


def revoke(file: Path, name: str) -> None:
    """End a token at once."""
    print(f"{file}: {_described(token_file.revoke(file, name))}")


def show(file: Path) -> None:
    """List the tokens of a file, without the tokens."""
    for grant in token_file.read_grants(file).values():
        print(_described(grant))


def _described(grant: Grant) -> str:
    return (
        f"{grant.id} {grant.site} {','.join(grant.roles)} until {grant.expires:%Y-%m-%d %H:%M} UTC"
        f" {grant.state(utc_now())}"
    )


def _require_new(out: Path | None) -> None:
    if out is not None and out.exists():
        raise OutputNotWritable(f"{out}: exists already: a token is never overwritten")


def _hand_over(token: str, out: Path | None) -> None:
    if out is None:
        print(token)
        return
    with written_whole(out, private=True) as temporary:
        temporary.write_text(f"{token}\n", encoding="ascii")


def _tell(line: str) -> None:
    # Standard output holds the token alone, so that it can be piped to where it belongs.
    print(line, file=sys.stderr)
