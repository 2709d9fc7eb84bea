"""``veilseg log``: what a server wrote down of who asked."""

from pathlib import Path

from veilseg.cli.extras import needing

with needing("server", "audit logs need"):
    from veilseg.access.audit_log import Head, verify


def check(files: list[Path], head: str | None) -> None:
    """Verify a log and print its head; raises as :func:`verify`."""
    start, end = verify(files, None if head is None else Head.parse(head))
    if start.count:
        print(f"{files[0]}: goes on after line {start.count}, which lies in an earlier file")
    print(f"{files[-1]}: unbroken, entries: {end.count - start.count}")
    print(f"head {end}")
    if head is None:
        print("entries cut off the end are missed without a --head from after them")
