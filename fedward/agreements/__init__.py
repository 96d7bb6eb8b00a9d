"""Documents that coordinator and hospitals hand to each other as files: enrolment and signed plans.

Canonical CBOR with caps and signatures, like everything of the protocol (``privacy/secagg/messages.py``).
"""
