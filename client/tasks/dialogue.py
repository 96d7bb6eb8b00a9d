"""Dialogue at a site: every turn of the assistant, given what was said before it."""

from fedward.client.tasks.language import Conversation, TurnSource
from fedward.tasks.dialogue import TASK

LOCAL = Conversation(TASK, TurnSource("turns", turns=lambda item: item.turns))
