"""Base models and adapters: find a frozen base model, check it, put LoRA and a head on it, save the adapter.

Start at ``registry.py`` (name -> files) and ``adapter_model.py`` (files -> trainable model); ``families/`` has a file
for each architecture. Only local files are read, only safetensors and JSON are parsed, and the family decides what a
model folder may ask for. ``registry.py``, ``families/``, ``download.py`` and ``tokens.py`` work without torch.
"""
