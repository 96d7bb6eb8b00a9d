"""Makes the packaged encoder: ``python -m scripts.pretrain --out FOLDER``."""
