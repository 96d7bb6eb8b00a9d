"""Makes the packaged decoder: ``python -m scripts.pretrain_decoder --out FOLDER``."""
