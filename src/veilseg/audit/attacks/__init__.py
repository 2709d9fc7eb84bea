"""One file per attack; the table of them is in ``audit.run``."""
