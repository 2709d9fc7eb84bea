"""What a PACS holds is segmented by itself, and the segmentation stored beside it.

``rules`` say what is segmented. ``dicomweb`` finds and fetches it, or ``dimse`` receives it into an
``inbox``; ``state`` remembers what is done, and ``worker`` does it. ``watching`` is the loop around
all that, with ``backoff`` where somebody is away.
"""
