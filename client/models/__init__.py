"""Base models and adapters: find a frozen encoder, check it, put LoRA and a head on it, save the adapter.

Start at ``registry.py`` (name -> files) and ``adapter_model.py`` (files -> trainable model). Only local files are
read, only safetensors and JSON are parsed, and ``encoder_config.py`` decides what a model folder may ask for.
``registry.py``, ``encoder_config.py``, ``download.py`` and ``tokens.py`` work without torch.
"""
