"""Mapping file: which tables and columns of a hospital hold what, for the corpus ``mapped``.

One TOML file, ``mapping.toml`` beside the tables or wherever ``mapping`` in the configuration says. Every key is
checked: one that is unknown is refused with the nearest known one, and so is ``"?"``, which a draft has where it cannot
know. Columns are compared without regard to case.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from fedward.client.data.buckets import measurements
from fedward.client.data.measured_units import other_units, own_units, plain_unit
from fedward.config import MAX_CONFIG_BYTES, Section, parse
from fedward.errors import ConfigError, DataError

MAPPING = "mapping.toml"
OPEN = "?"
"""What a draft says where it cannot know."""


def _column(name: str) -> str:
    if not name.strip():
        raise ValueError("a column needs a name")
    return name.strip().lower()


def _inside(name: str) -> str:
    path = Path(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise ValueError("write the file's path below the data folder")
    return path.as_posix()


def _measurement(name: str) -> str:
    if name not in measurements():
        near = difflib.get_close_matches(name, measurements(), n=1)
        raise ValueError(f"{name!r} is no measurement; " + (f"did you mean {near[0]!r}?" if near else _KNOWN))
    return name


_KNOWN = f"known are {', '.join(measurements())}"
Column = Annotated[str, AfterValidator(_column)]
File = Annotated[str, AfterValidator(_inside)]
Name = Annotated[str, AfterValidator(_measurement)]
Place = Literal["home", "facility", "died", "other"]
NoteKind = Literal["nursing", "physician", "general", "respiratory", "radiology", "discharge summary", "other"]


class FormatSection(Section):
    """How cells are written. Without ``times`` they are ISO 8601; formats are those of ``strptime``, tried in turn.

    A format without an hour is of a date, whose time of day is unknown. ``empty`` adds words for an empty cell; ``""``
    among the words of ``true`` or ``false`` says what an empty flag means.
    """

    encoding: str = "utf-8"
    separator: Literal[",", ";", "\t", "|"] | None = None
    decimal: Literal[".", ","] = "."
    times: list[str] = Field(default=[])
    empty: list[str] = Field(default=[])
    true: list[str] = Field(default=[])
    false: list[str] = Field(default=[])

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            "".encode(name)
        except (LookupError, ValueError):
            raise ValueError("is no text encoding, for example utf-8, gb18030, cp1252 or latin-1") from None
        return name.lower()

    @field_validator("times")
    @classmethod
    def _are_formats(cls, formats: list[str]) -> list[str]:
        for each in formats:
            try:
                parsed = datetime.strptime(datetime(2001, 2, 3, 4, 5, tzinfo=UTC).strftime(each), each)
            except ValueError:
                raise ValueError(f"{each!r} is no format of a time, for example %d.%m.%Y %H:%M") from None
            if (parsed.year, parsed.month, parsed.day) != (2001, 2, 3):
                raise ValueError(f"{each!r} does not name day, month and year")
        return formats


class TableSection(Section):
    """A file below the data folder; ``format`` replaces the whole of ``[format]`` for it."""

    file: File
    format: FormatSection | None = None

    @property
    def columns(self) -> dict[str, str]:
        """Columns that the section names, by key."""
        return {key: value for key, value in self if isinstance(value, str) and key not in ("file", "kind")}


class PersonsSection(TableSection):
    """One row a person."""

    person: Column
    sex: Column | None = None
    birth: Column | None = None
    birth_year: Column | None = None


class AdmissionsSection(TableSection):
    """One row a hospital stay; where there is no table of persons, what is known of the person stands here, too."""

    person: Column
    admission: Column
    start: Column
    end: Column
    sex: Column | None = None
    birth: Column | None = None
    birth_year: Column | None = None
    age: Column | None = None
    arrival: Column | None = None
    diagnosis: Column | None = None
    died: Column | None = None
    death: Column | None = None
    destination: Column | None = None
    department: Column | None = None
    site: Column | None = None
    unit: Column | None = None
    arrivals: dict[str, str] = Field(default={})
    destinations: dict[str, Place] = Field(default={})


class StaysSection(TableSection):
    """One row a stay in intensive care; without this section the hospital stays are the stays."""

    stay: Column
    admission: Column
    start: Column
    end: Column
    unit: Column | None = None


class _OfSomebody(TableSection):
    """Rows of a person, or of an admission that tells whose they are; known when ``stored``, not at their ``time``."""

    person: Column | None = None
    admission: Column | None = None
    time: Column
    stored: Column | None = None

    @model_validator(mode="after")
    def _one_owner(self) -> Self:
        if (self.person is None) == (self.admission is None):
            raise ValueError("name the column of the person, or that of the admission")
        return self


class _Measured(_OfSomebody):
    units: dict[Name, str] = Field(default={})

    @field_validator("units")
    @classmethod
    def _are_known(cls, units: dict[str, str]) -> dict[str, str]:
        for name, unit in units.items():
            known = {*own_units(name), *other_units(name)}
            if known and plain_unit(unit) not in known:
                raise ValueError(f"{unit!r} is no unit of {name!r}; known are {', '.join(sorted(known))}")
        return units


class MeasurementsSection(_Measured):
    """One row a measurement: its local code, which ``codes`` gives a name, or its LOINC code."""

    code: Column | None = None
    loinc: Column | None = None
    value: Column
    unit: Column | None = None
    codes: dict[str, Name] = Field(default={})

    @model_validator(mode="after")
    def _says_what_is_measured(self) -> Self:
        if (self.code is None) == (self.loinc is None) or bool(self.code) != bool(self.codes):
            raise ValueError("name a column `code` and what its `codes` mean, or a column `loinc`")
        return self


class WideSection(_Measured):
    """One column a measurement."""

    columns_of: dict[Column, Name] = Field(alias="columns", min_length=1)


class NotesSection(_OfSomebody):
    """One row a note, all of one ``kind``, or of the kind that ``categories`` gives its category."""

    text: Column
    category: Column | None = None
    categories: dict[str, NoteKind] = Field(default={})
    kind: NoteKind | None = None

    @model_validator(mode="after")
    def _says_its_kind(self) -> Self:
        if (self.kind is None) == (self.category is None) or bool(self.category) != bool(self.categories):
            raise ValueError("name the `kind` of all notes, or a column `category` and what its `categories` are")
        return self


class DiagnosesSection(TableSection):
    """One row a diagnosis of an admission, as an ICD code."""

    admission: Column
    code: Column


class DeathsSection(TableSection):
    """One row a death, in hospital or outside."""

    person: Column
    time: Column


class SexesSection(Section):
    """Words for the sexes; others are unknown."""

    male: list[str] = Field(default=["m", "male"])
    female: list[str] = Field(default=["f", "female"])


class MappingFile(Section):
    """The whole file."""

    format: FormatSection = FormatSection()
    sexes: SexesSection = SexesSection()
    persons: PersonsSection | None = None
    admissions: AdmissionsSection
    stays: StaysSection | None = None
    measurements: dict[str, MeasurementsSection] = Field(default={})
    wide: dict[str, WideSection] = Field(default={})
    notes: dict[str, NotesSection] = Field(default={})
    diagnoses: DiagnosesSection | None = None
    deaths: DeathsSection | None = None

    @model_validator(mode="after")
    def _tells_who_died(self) -> Self:
        told = self.admissions
        by_place = told.destination is not None and "died" in told.destinations.values()
        if told.died is None and told.death is None and self.deaths is None and not by_place:
            raise ValueError(
                "nothing tells who died: name admissions.died, admissions.death, a destination or [deaths]"
            )
        return self

    @property
    def tables(self) -> list[TableSection]:
        """Every section of a table."""
        single = (self.persons, self.admissions, self.stays, self.diagnoses, self.deaths)
        several = (*self.measurements.values(), *self.wide.values(), *self.notes.values())
        return [each for each in (*single, *several) if each is not None]


def mapping_bytes(path: Path) -> bytes:
    """The content of a mapping file; raises FW-DATA-072 (it cannot be read, or is too large)."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise DataError(f"The mapping file {path} cannot be read.", code="FW-DATA-072") from error
    if len(content) > MAX_CONFIG_BYTES:
        raise DataError(f"The mapping file {path} is larger than {MAX_CONFIG_BYTES} bytes.", code="FW-DATA-072")
    return content


def load_mapping(path: Path) -> MappingFile:
    """Reads and checks a mapping file.

    Raises:
        DataError: FW-DATA-072 (it does not hold; names the key), FW-DATA-073 (keys are open).
    """
    try:
        document = tomllib.loads(mapping_bytes(path).decode("utf-8"))
        unknown = list(open_keys(document))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"The mapping file {path.name} is not valid TOML: {error}.", code="FW-DATA-072") from error
    if unknown:
        raise DataError(f"{path.name} leaves open: {', '.join(unknown)}.", code="FW-DATA-073")
    try:
        return parse(document, MappingFile, source=path.name)
    except ConfigError as error:
        raise DataError(error.message, code="FW-DATA-072", fix=error.fix) from error


def open_keys(document: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Keys whose value, or a part of it, is ``"?"``, with the names of their tables before them."""
    for key, value in document.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from open_keys(value, f"{name}.")
        elif OPEN in (key, value) or (isinstance(value, list) and OPEN in value):
            yield name
