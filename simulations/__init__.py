"""Whole federations on one machine: synthetic hospitals, an in-process transport and scenarios.

Only the transport differs from a deployment; client, server, protocol and privacy code are the same.
"""
