"""How fast it is, beside what else one could use, measured in the same run, by turns; and how good.

``rounds`` lets contenders take turns and compares them; ``record`` says of what machine and commit
a measurement is. ``runtime`` compares ways to compute a network (``contenders``), ``serve``
compares servers under ``load`` (ours in ``servers``; others, in environments of their own, by the
scripts in ``peers``), ``site`` says where a site's time goes. ``queueing`` and ``plan`` simulate
what no single machine can be measured for. ``evidence`` takes every scheme through every data set,
``alone`` keeps two of them out of one folder.

Commands, never timed tests: a busy machine must not fail a test.
"""
