"""The server: hosts the server halves of bundles behind the Open Inference Protocol.

``runtime`` computes, ``models`` tests and keeps what it computes with, ``dataplane``
answers protocol messages, ``body`` takes request bodies within limits, ``app`` maps all
that to HTTP and ``listen`` puts it on a socket. Only the last two know a web framework.
"""
