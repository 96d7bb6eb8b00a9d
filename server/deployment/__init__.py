"""The coordinator as a product; start with ``settings.py`` (``server.toml``) and ``service.py`` (the process)."""
