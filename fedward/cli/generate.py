"""`fedward generate`: what a language model, or the adapter of a run, writes after a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer import Argument, Option

from fedward.cli.answers import records_of
from fedward.cli.evaluate import Scored, adapter_folder, load_scored
from fedward.cli.shared import say_json, tried
from fedward.errors import ConfigError, DataError
from fedward.units import UNITS

if TYPE_CHECKING:
    from fedward.client.corpora.corpus import Turn
    from fedward.client.generation import Generated, Sampling


def generate(
    run: Annotated[
        Path,
        Argument(metavar="RUN|ADAPTER|MODEL", help="Folder of a run, of an adapter, or name or folder of a model."),
    ],
    prompt: Annotated[str | None, Option(help="What to answer, or to go on with.")] = None,
    data: Annotated[
        Path | None, Option(metavar="FILE", help="JSON lines of prompt, question or messages; one text for each.")
    ] = None,
    out: Annotated[
        Path | None,
        Option(
            callback=tried, metavar="FILE", help="New file of JSON lines: each record with its text as 'generated'."
        ),
    ] = None,
    max_new_tokens: Annotated[int, Option(min=1, help="Longest text, in tokens.")] = 128,
    temperature: Annotated[float, Option(min=0.0, help="0 takes the likeliest token; 1 draws as the model says.")] = 0,
    seed: Annotated[int, Option(min=0, help="The same seed and prompt give the same text.")] = 0,
    task: Annotated[
        str | None,
        Option(help="Of a model without an adapter: clm goes on with a text, sft and dialogue answer."),
    ] = None,
    base: Annotated[
        Path | None, Option(help="Base model of the adapter, where it is not the one that it names.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON, one object a text.")] = False,
) -> None:
    """Let a language model write: the answer to a prompt, or to each record of a file.

    Examples:

      fedward generate demo-run --prompt "What helps against a cold?"

      fedward generate tiny-decoder --data questions.jsonl --out answers.jsonl --temperature 0.8 --seed 1

    Everything stays on this machine. A model can repeat what it learnt by heart: there is a warning where an adapter
    was trained on records of persons without differential privacy.
    """
    from fedward.client.generation import Sampling

    if (prompt is None) == (data is None):
        raise typer.BadParameter("Give either --prompt or --data.", param_hint="--prompt")
    if out is not None and out.exists():
        raise ConfigError(f"{out} is there already.", code="FW-CONFIG-005", fix="Choose another file.")
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"There is no folder {out.parent}.", code="FW-CONFIG-004", fix="Make it, or choose another.")
    warning = unsafe(run)
    if warning:
        Console(stderr=True, highlight=False).print(f"Warning: {warning}", style="yellow", soft_wrap=True)
    sampling = Sampling(max_new_tokens, temperature, seed)
    pen = Pen(load_scored(run, task or default_task(run), base=base), sampling)
    records: Iterable[tuple[int, Any]] = [(1, {"prompt": prompt})] if data is None else records_of(data)
    written = pen.written(records)
    if out is not None:
        count = _save(written, out)
        typer.echo(json.dumps({"written": count, "out": str(out)}) if as_json else f"{out}: {count:,} texts")
        return
    for record in written:
        if as_json:
            say_json(record | ({"warning": warning} if warning else {}))
        else:
            typer.echo(record["generated"])


class Pen:
    """A loaded model that answers records."""

    def __init__(self, loaded: Scored, sampling: Sampling) -> None:
        from fedward.client.generation import Author
        from fedward.client.models.templates import Writer
        from fedward.client.tasks.language import LanguageTask

        if not isinstance(loaded.task, LanguageTask):
            told = f"The adapter was trained for {loaded.task.declaration.name!r}, which writes no text."
            raise ConfigError(told, code="FW-CONFIG-043")
        self._task, self._sampling, self._writer = loaded.task, sampling, Writer(loaded.files)
        self._author = Author(loaded.model, self._writer)

    def written(self, records: Iterable[tuple[int, Any]]) -> Iterator[dict[str, Any]]:
        """Each record with what the model wrote for it; raises DataError with the record's number."""
        from fedward.client.generation import prompt_of

        for row, record in records:
            where = f"Record {row:,}"
            if not isinstance(record, Mapping):
                raise DataError(f"{where} is no object.", code="FW-DATA-032")
            turns = prompt_of(record, where)
            try:
                found = self.write(turns)
            except DataError as error:
                raise DataError(f"{where}: {error.message}", code=error.code, fix=error.fix) from error
            yield {**record, "generated": found.text, "tokens": len(found.ids), "ended": found.ended}

    def write(self, turns: Sequence[Turn]) -> Generated:
        """What the model answers to ``turns``, or how it goes on with them."""
        return self._author.write(self._task.prompt(self._writer, turns), self._sampling)


def unsafe(run: Path) -> str:
    """Why texts of the adapter in ``run`` may repeat records of persons; empty where nothing speaks for it."""
    from fedward.client.models.adapter_files import read_card
    from fedward.client.models.peft_adapters import is_peft_adapter

    silent = "The adapter does not say whether it was trained with differential privacy; it may repeat its records."
    if not run.is_dir() or not any((folder / "fedward.json").is_file() for folder in (run / "adapter", run)):
        return silent if run.is_dir() and is_peft_adapter(run) else ""
    privacy = read_card(adapter_folder(run)).privacy
    if privacy is None:
        return silent
    if privacy.epsilon is not None or not UNITS[privacy.unit].persons:
        return ""
    return (
        f"The adapter was trained on records of {UNITS[privacy.unit].plural} without differential privacy. "
        "It may repeat them: keep it, and what it writes, where the records may be read."
    )


def default_task(run: Path) -> str | None:
    """What a model without an adapter does: it answers if it has a chat template or an encoder, else it goes on."""
    from fedward.client.models.registry import REQUIRED_FILES, resolve
    from fedward.client.models.templates import PLAIN, template_of

    if run.is_dir() and not (run / REQUIRED_FILES[0]).is_file():
        return None
    files = resolve(run if run.is_dir() else str(run))
    return "clm" if template_of(files) is PLAIN and not files.config().family.encoder else "sft"


def _save(written: Iterator[dict[str, Any]], out: Path) -> int:
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in written]
    if not lines:
        raise DataError("The file of prompts holds no record.", code="FW-DATA-006")
    out.write_text("".join(lines), encoding="utf-8")
    return len(lines)
