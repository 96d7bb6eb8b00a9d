"""The site's ledger as its file describes it: cap, delta, anchor, and exact sets of units where identifiers last."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedward.client.daemon.settings import ClientConfig
from fedward.plan import Plan
from fedward.privacy.ledger import AnchorFile, FileStore, Ledger, LedgerStore, Namespace, Patients, Population


def open_site_ledger(
    config: ClientConfig, store: LedgerStore, plan: Plan, *, train: Iterable[str], evaluation: Iterable[str]
) -> Ledger:
    """Opens the ledger in ``store`` for a run of ``plan``, or begins it.

    Args:
        config: of the site.
        store: the site's own; on a copy in memory the anchor is left alone.
        plan: says which units it prices, and how they are split.
        train: identifiers of the training units that can be sampled; hashed only where a namespace is declared.
        evaluation: the same of the evaluation units.

    Raises:
        ConfigError: FW-LEDGER-008, the key of the namespace cannot be used.
        PolicyError (FW-LEDGER-004, FW-LEDGER-010), IntegrityError (FW-LEDGER-002, FW-LEDGER-001), ResourceError
            (FW-LEDGER-006): see the classes.
    """
    section, namespace, patients = config.ledger, None, None
    if section.namespace is not None and section.namespace_key is not None:
        namespace = Namespace.from_file(section.namespace, Path(section.namespace_key))
        patients = Patients(namespace.ids(train), namespace.ids(evaluation))
    anchor = None
    if section.anchor_file is not None and isinstance(store, FileStore):
        anchor = AnchorFile(Path(section.anchor_file))
    return Ledger(
        store,
        site=config.site.name,
        cap_epsilon=config.policy.max_epsilon_lifetime,
        delta=config.policy.delta,
        population=Population(plan.split_salt, plan.evaluation_fraction, patients),
        unit=plan.privacy.unit,
        namespace=namespace,
        anchor=anchor,
    )
