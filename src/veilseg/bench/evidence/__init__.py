"""``veilseg bench evidence``: every scheme on every data set, and what the figures say together.

``data`` and ``cells`` say what is measured, ``trained`` finds or makes a cell's bundle, ``measure``
takes it through the commands that users have (``children``), and ``costs`` times it; ``kept``
remembers what is done, and ``comparisons`` says what all of it means. ``every`` goes through all
cells, or through one afresh.
"""
