"""``client.toml``: the one file a hospital's administrator writes. It holds no secret."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from fedward.client.corpora import CORPORA
from fedward.client.corpora.mapping import MAPPING
from fedward.client.data.drops import MOST_DROPPED
from fedward.client.link import Limits
from fedward.config import Section, load_toml

MEBIBYTE = 1024**2
SiteName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/")]


class SiteSection(Section):
    """Who this is. ``state_dir`` holds keys, approvals, ledger and journals; it must survive a reinstallation."""

    name: SiteName
    state_dir: AbsolutePath


class CoordinatorSection(Section):
    """The only machine this site ever calls. ``proxy`` is for this connection alone; the environment is not asked."""

    url: str
    proxy: str | None = None

    @field_validator("url")
    @classmethod
    def _is_https(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            complete = parts.scheme == "https" and parts.hostname and parts.port
        except ValueError:
            complete = None
        if not complete or parts.path not in ("", "/") or parts.username or parts.query:
            raise ValueError("write https://HOST:PORT and nothing else")
        return url

    @field_validator("proxy")
    @classmethod
    def _is_proxy(cls, url: str | None) -> str | None:
        if url is not None and (urlsplit(url).scheme != "http" or not urlsplit(url).hostname):
            raise ValueError("write http://HOST:PORT")
        return url

    @property
    def host(self) -> str:
        """Name or address of the coordinator."""
        return str(urlsplit(self.url).hostname)

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(urlsplit(self.url).port or 0)

    @property
    def address(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return urlsplit(self.url).netloc


class DataSection(Section):
    """One folder of records, which is only read.

    ``notes_without_rules`` says what happens to free texts in a language without de-identification rules: training
    stops and says how many there are, or it goes on without them. ``most_dropped`` is the share of the rows of a table
    that may be unusable; with more, training stops and says why. ``exclude`` lists persons who have opted out:
    they are never read into any task. ``mapping`` says what the columns are where ``format`` is ``mapped``; where it
    is not given, ``mapping.toml`` in the folder does.
    """

    path: AbsolutePath
    format: str  # its corpus, a key of CORPORA
    notes_without_rules: Literal["refuse", "leave-out"] = "refuse"
    most_dropped: Annotated[float, Field(ge=0, le=1)] = MOST_DROPPED
    exclude: AbsolutePath | None = None
    mapping: AbsolutePath | None = None

    @field_validator("format")
    @classmethod
    def _is_read(cls, name: str) -> str:
        if name not in CORPORA:
            raise ValueError(f"is not one of {', '.join(CORPORA)}")
        return name

    @model_validator(mode="after")
    def _only_mapped_tables_have_a_mapping(self) -> Self:
        if self.mapping is not None and self.format != "mapped":
            raise ValueError('mapping is for format = "mapped" alone')
        return self

    @property
    def excluded(self) -> Path | None:
        """The list of persons who have opted out."""
        return None if self.exclude is None else Path(self.exclude)

    @property
    def mapped_by(self) -> Path | None:
        """The mapping file; None for other formats."""
        if self.format != "mapped":
            return None
        return Path(self.path) / MAPPING if self.mapping is None else Path(self.mapping)

    @property
    def leave_out(self) -> bool:
        """Whether such texts are left out."""
        return self.notes_without_rules == "leave-out"


class PolicySection(Section):
    """The hospital's own limits. A plan can only be stricter; nothing a coordinator sends changes them."""

    renamed: ClassVar[Mapping[str, str]] = {"min_patients": "min_units"}

    min_units: Annotated[int, Field(ge=1)]  # fewest training units (patients, or questions) to take part with
    max_epsilon_per_run: Annotated[float, Field(gt=0)]  # as this site's accountant computes it at delta
    max_epsilon_lifetime: Annotated[float, Field(gt=0)]  # cap of the ledger, over all runs
    max_epsilon_everybody: Annotated[float, Field(gt=0)] | None = None  # the same if all others pool what they know
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5  # of every epsilon of this site; fixed once the ledger exists
    min_cohort: Annotated[int, Field(ge=3)] = 3  # fewest hospitals in a round
    max_plan_days: Annotated[int, Field(ge=1, le=366)] = 90  # longest validity of a plan that is accepted
    approval: Literal["manual"] = "manual"  # each run is approved by a person; there is no other mode
    allowed_base_models: list[Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]]  # that may be trained
    unsafe_non_private: bool = False  # lets plans without differential privacy pass; for synthetic data only

    @model_validator(mode="after")
    def _lifetime_covers_a_run(self) -> Self:
        if self.max_epsilon_per_run > self.max_epsilon_lifetime:
            raise ValueError("max_epsilon_per_run is larger than max_epsilon_lifetime")
        return self


class LedgerSection(Section):
    """What the privacy ledger is kept with, beside the state folder; see ``docs/ledger.md``.

    ``namespace`` names patient identifiers that never change in any export, for example ``hospital-mrn``. Where it is
    declared, a release counts for the patients who could have been drawn, otherwise for everybody.
    """

    anchor_file: AbsolutePath | None = None  # remembers how far the ledger had come; not on the state folder's disk
    namespace: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    namespace_key: AbsolutePath | None = None  # file of 32 secret bytes that the identifiers are hashed with

    @model_validator(mode="after")
    def _namespace_has_a_key(self) -> Self:
        if (self.namespace is None) != (self.namespace_key is None):
            raise ValueError("namespace and namespace_key are given together or not at all")
        return self


class LimitsSection(Section):
    """What the daemon may use of this machine, and what it accepts from the coordinator. No guarantee depends on it."""

    threads: Annotated[int, Field(ge=1, le=256)] = 1
    microbatch: Annotated[int, Field(ge=1)] = 64
    message_mb: Annotated[int, Field(ge=1, le=16 * 1024)] = 1024
    patience_seconds: Annotated[float, Field(gt=0)] = 120.0
    min_free_disk_mb: Annotated[int, Field(ge=1)] = 1024


class ClientConfig(Section):
    """The whole file; `deploy/client.toml` is a complete example. Keys of release 0.1.0 are read by their new names."""

    reads_renamed: ClassVar[bool] = True

    site: SiteSection
    coordinator: CoordinatorSection
    data: Annotated[dict[str, DataSection], Field(min_length=1, max_length=1)]
    policy: PolicySection
    ledger: LedgerSection = LedgerSection()
    limits: LimitsSection = LimitsSection()

    @model_validator(mode="after")
    def _one_restore_cannot_take_both_back(self) -> Self:
        anchor, state = self.ledger.anchor_file, self.folder.resolve()
        if anchor is not None and Path(anchor).resolve().is_relative_to(state):
            raise ValueError("ledger.anchor_file lies inside site.state_dir, where one restore would take both back")
        return self

    @cached_property
    def folder(self) -> Path:
        """The state folder."""
        return Path(self.site.state_dir)

    @property
    def tables(self) -> DataSection:
        """The one data set of this site."""
        return next(iter(self.data.values()))

    @property
    def link_limits(self) -> Limits:
        """Limits of the link, in the form the node takes."""
        return Limits(message_bytes=self.limits.message_mb * MEBIBYTE, patience_seconds=self.limits.patience_seconds)


def load_client_config(path: Path) -> ClientConfig:
    """Reads ``client.toml``. Raises :class:`ConfigError`, :class:`UnknownKeyError`."""
    return load_toml(path, ClientConfig)
