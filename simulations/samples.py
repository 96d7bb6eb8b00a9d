"""Samples: how a language model goes on from beginnings that the scenario names, before a run and after it.

They are texts of no patient: the beginnings are public, and what follows is as private as the adapter.
"""

from fedward.adapter import Vector
from fedward.client.corpora.corpus import Turn
from fedward.client.generation import Author, Sampling, check_room
from fedward.client.models.adapter_model import AdapterModel, set_vector
from fedward.client.models.registry import ModelFiles
from fedward.client.models.templates import Writer
from fedward.client.tasks.language import LanguageTask
from fedward.client.tasks.task import LocalTask
from fedward.errors import DataError
from fedward.planning.scenario import SamplesConfig
from fedward.simulations.result import Sample


def check_samples(files: ModelFiles, task: LocalTask, config: SamplesConfig) -> list[list[int]]:
    """The prompts as tokens, before anything trains; none of a task that writes no text.

    Raises FW-DATA-035 (one is empty or leaves no room in the model), and like :class:`Writer`.
    """
    if not config.prompts or not isinstance(task, LanguageTask):
        return []
    writer = Writer(files)
    prompts = [task.prompt(writer, [Turn("user", prompt)]) for prompt in config.prompts]
    for number, prompt in enumerate(prompts, 1):
        try:
            check_room(prompt, writer, files.config().max_tokens)
        except DataError as error:
            raise DataError(f"Prompt {number} of [samples]: {error.message}", code=error.code) from error
    return prompts


def write_samples(
    model: AdapterModel, files: ModelFiles, task: LocalTask, config: SamplesConfig, *, before: Vector, after: Vector
) -> tuple[Sample, ...]:
    """A sample for each of the prompts; ``before`` and ``after`` are adapters float32 ``[P]`` of ``model``."""
    if not config.prompts or not isinstance(task, LanguageTask):
        return ()
    sampling = Sampling(config.max_new_tokens, config.temperature, config.seed)
    prompts, writer = check_samples(files, task, config), Writer(files)

    def written(adapter: Vector) -> list[str]:
        set_vector(model, adapter)
        author = Author(model, writer)
        return [author.write(prompt, sampling).text for prompt in prompts]

    rows = zip(config.prompts, written(before), written(after), strict=True)
    return tuple(Sample(prompt=prompt, untrained=first, federated=last) for prompt, first, last in rows)
