"""One web page over the gateway: an image in, what left of it, and what was found.

``routes`` is the router, and answers in the words of ``documents`` and ``words``. A ``tasks.Task``
is one image on its way, watched by its page; ``looking`` keeps what there is to see of it, beside
the upload and as long. ``assets`` are the page's own files; it asks for no others.
"""
