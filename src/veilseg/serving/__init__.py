"""The server: hosts the server halves of bundles behind the Open Inference Protocol.

In the order a request takes: ``listen``, ``service`` and ``heads`` take connections within limits,
over ``tls``; ``app`` maps HTTP to the data plane, with ``visitors`` for who asks, ``body`` for
bodies within limits, ``http_errors`` for statuses, ``lingering`` for refusals that arrive and
``observing`` for a log line and a count each.
``dataplane`` answers protocol messages: ``admission`` lets them in, ``requests`` checks them,
``batching`` shares each network out between the sites, one of ``lanes`` for each model.
``runtime`` computes; ``models`` tests what it computes with; ``repository`` and ``store`` keep the
models by version and take them from disk. ``settings``, ``logs`` and ``metrics`` are the
operator's. Only the modules of the first sentence know HTTP.
"""
