"""Who may use a service, and the record of who did.

``tokens`` makes and checks bearer tokens, ``token_file`` keeps their hashes on disk,
``audit_log`` writes down who asked for what. Nothing here knows HTTP: every service of the
project shares it.
"""
