"""The coordinator as a product: settings, certificates, admission of hospitals, runs, and the process that serves.

Start with ``settings.py`` (``server.toml``) and ``service.py`` (what `fedward server serve` does).
"""
