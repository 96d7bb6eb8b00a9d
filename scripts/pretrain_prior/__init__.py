"""Makes the encoder ``clinical-prior`` from published severity tables: ``python -m scripts.pretrain_prior``."""
