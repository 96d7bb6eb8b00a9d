"""Supervised fine-tuning at a site: the answer of each question, with its end."""

from fedward.client.tasks.language import Conversation, TurnSource, asked_and_answered
from fedward.tasks.sft import TASK

LOCAL = Conversation(TASK, TurnSource("question", "answer", turns=asked_and_answered))
