"""The provider's side of training together: what sites contribute, and fits to it.

``tables`` and ``database`` hold who contributed what, ``blobs`` the shards themselves; ``projects``
is what the provider does, ``contributions`` what a site may do, ``app`` maps that to HTTP;
``fitting`` fits the server network and ``versions`` publishes it.
"""
