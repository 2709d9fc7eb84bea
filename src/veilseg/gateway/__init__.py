"""The site's local service: what the hospital's tools speak, over the path of ``veilseg segment``.

In the order a request takes: ``guards`` refuses pages of others (``serving.service`` has the
socket); ``app`` puts the routes together, ``monai_label`` speaks to 3D Slicer and OHIF in the
words of ``documents``, with ``forms`` for what they upload and ``http_errors`` for statuses.
``sessions`` keeps uploads for a while in a ``work`` folder, ``datastore`` finds what lies at the
site already.
``jobs`` bounds what runs at a time, and ``segmenting`` does it: one bundle, from image to labels.
A further front, such as a page, is a router beside ``monai_label`` over the same
:class:`~veilseg.gateway.site.Site`.
"""
