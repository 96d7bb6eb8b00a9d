"""Import of foreign model folders: weights and tokenizers become safetensors and ``tokenizer.json``.

Start at ``command.py`` (``fedward models import``) and ``convert.py`` (what its locked-down process does).
One file reads one form: ``weights.py`` safetensors, ``pickled.py`` files of ``torch.save``, ``gguf.py`` and its
neighbours GGUF, ``tokenizer_files.py`` and ``sentencepiece.py`` tokenizers. Nothing here imports torch but the last
check, and no reader follows a link, runs what it reads, or trusts a count before it was compared with the bytes there.
"""
