"""``veilseg key``."""

from pathlib import Path

from veilseg.errors import OutputNotWritable
from veilseg.schemes.encoding.key import ConsortiumKey


def new(file: Path) -> None:
    """Make a key; raises as :meth:`ConsortiumKey.write`."""
    key = ConsortiumKey.new()
    key.write(file)
    print(f"{file}: consortium key {key.fingerprint()}")


def rotate(file: Path) -> None:
    """Make a new key; the old one is kept under its fingerprint, for bundles trained with it."""
    old = ConsortiumKey.read(file)
    aside = file.with_name(f"{file.name}.{old.fingerprint()}")
    made, fresh = file.with_name(f".{file.name}.new"), ConsortiumKey.new()
    if not aside.exists():
        old.write(aside)
    elif ConsortiumKey.read(aside) != old:
        raise OutputNotWritable(f"{aside}: is there already and holds another key")
    made.unlink(missing_ok=True)
    fresh.write(made)
    try:
        made.replace(file)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise OutputNotWritable(f"{file}: cannot be written: {error.strerror}") from error
    print(f"{file}: consortium key {fresh.fingerprint()}")
    print(f"{aside}: the old one; bundles trained with it need it until they are trained anew")


def read_key(file: Path | None) -> ConsortiumKey | None:
    """The key that was given, if one was."""
    return None if file is None else ConsortiumKey.read(file)
