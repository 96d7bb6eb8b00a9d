"""Causal language modelling at a site: every token of a text, given those before it."""

from fedward.client.tasks.language import Running, RunningSource
from fedward.tasks.clm import TASK

LOCAL = Running(TASK, RunningSource())
