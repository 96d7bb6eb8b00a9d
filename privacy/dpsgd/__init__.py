"""Patient-level differentially private training: sampler, engine, gates and certificate.

Start with ``engine.py``. This is the only place in ``privacy/`` that imports torch and Opacus.
"""
