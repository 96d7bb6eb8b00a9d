"""A task: whether a question is about tea. The declaration, and the hospital's side of it."""

from fedward.client.tasks.prediction import Binary
from fedward.client.tasks.task import TextSource
from fedward.tasks.task import Head, Task
from tests.toys.measure import Near

TASK = Task(
    name="tea",
    version=1,
    outcome="questions about tea",
    purpose="whether a question is about tea",
    head=Head(),
    measures=(Near(),),
)
LOCAL = Binary(TASK, TextSource("question", label=lambda item: int("tea" in item.texts["question"])))
