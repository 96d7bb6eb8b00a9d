"""Clinical tables to text: readers, leakage guard, de-identification, buckets and the split by patient.

May import the kernel only. Start at ``loader.py``: tables -> events (``mimic3.py``, ``eicu.py``) -> what
was known at prediction time (``leakage.py``) -> text (``text.py``).
"""

from fedward.client.data.example import Example
from fedward.client.data.folder import FolderReport, check_folder
from fedward.client.data.loader import load_examples
from fedward.client.data.split import split_patients

__all__ = ["Example", "FolderReport", "check_folder", "load_examples", "split_patients"]
