"""Hidden rounds: no linear combination of sums that can be opened on one adapter covers fewer than t - c honest ones.

A coordinator and c hospitals draw up rounds on one adapter as they like: whom each is over, which packages are shown to
whom, which survivors are named to whom, who is asked for shares and which of the c are shown as liars. Honest hospitals
follow ``privacy/secagg/releases.py`` and the rules of a single round (one upload, one confirmation, t of them before
any share). What can be opened is a matrix of zeros and ones over the honest hospitals; what its rows can be combined
to, exact linear algebra tells.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.privacy.secagg.crypto import RefusalError
from fedward.privacy.secagg.journal import Release
from fedward.privacy.secagg.messages import Manifest, PackageHead
from fedward.privacy.secagg.releases import after_heads, check_manifest, survivors_due
from fedward.privacy.secagg.roster import minimum_threshold
from tests.combinations import covers_at_least

HASH = bytes(32)


def manifest_of(number, cohort, threshold):
    names = ("roster_hash", "base_model_hash", "adapter_hash", "previous_result", "plan_hash", "code_hash")
    hashes = dict.fromkeys((*names, "layout_hash"), HASH)
    rest = {"run": "run-1", "epoch": 1, "attempt": 0, "segments": [], "mechanism": "none", "deadline": 0}
    numbers = {"round": number, "seq": number, "threshold": threshold}
    return Manifest(**hashes, **rest, **numbers, first_cohort=cohort, cohort=cohort)


def head_of(site, released):
    hashes = dict.fromkeys(("ctx", "ledger_head", "fresh", "b", "R", "envelope_hash", "mail_hash"), HASH)
    return PackageHead(**hashes, site=site, b_shares={}, R_shares={}, pairs={}, released=released)


@dataclass
class Play:
    """Rounds on one adapter, as the adversary draws them."""

    data: st.DataObject
    honest: tuple[str, ...]
    liars: tuple[str, ...]
    records: dict[str, tuple[Release, ...]] = field(default_factory=dict)
    opened: list[tuple[frozenset[str], int]] = field(default_factory=list)

    def choose(self, label, names, *, least=0):
        """Some of ``names``, at least ``least``; half of the time all, for otherwise nothing would ever be opened."""
        names = sorted(names)
        if len(names) <= least or self.data.draw(st.integers(0, 3), label=f"{label}: how many") < 2:
            return frozenset(names)
        most = st.lists(st.sampled_from(names), unique=True, max_size=len(names) - least)
        return frozenset(names) - set(self.data.draw(most, label=f"{label}: without"))

    def round(self, number):
        c, ctx = len(self.liars), bytes([number]) * 32
        first = tuple(sorted({*self.choose("cohort", self.honest, least=2), *self.choose("of the c", self.liars)}))
        threshold = minimum_threshold(len(first), c)
        if threshold > len(first):
            return
        manifest = manifest_of(number, first, threshold)
        heads = {site: head_of(site, ()) for site in self.liars if site in first}
        for site in set(self.honest) & self.choose("asked", first):
            if self.permits(lambda me=site: check_manifest(self.records.get(me, ()), manifest, me, c)):
                heads[site] = head_of(site, tuple(one.ctx for one in self.records.get(site, ())))
        shown = self.choose("packages", heads)
        due = self.masked(manifest, {site: heads[site] for site in shown}, self.choose("proven liars", self.liars))
        self.confirmed(manifest, ctx, {*due, *(set(self.liars) & shown)}, due)

    def permits(self, rule):
        try:
            rule()
        except RefusalError:
            return False
        return True

    def masked(self, manifest, heads, proven):
        """What each honest hospital that masks is bound to confirm."""
        due = {}
        for site in set(self.honest) & heads.keys():
            others = {name: head for name, head in heads.items() if name != site}
            released = after_heads(self.records.get(site, ()), others, len(self.liars))
            try:
                due[site] = survivors_due(released, manifest, proven)
            except RefusalError:
                continue
            self.records[site] = released
        return due if len(heads) >= manifest.threshold else {}

    def confirmed(self, manifest, ctx, uploaded, due):
        """Two survivor sets, of which each hospital is shown one; shares of those that are asked."""
        sets = [self.choose(f"survivors {i}", uploaded) for i in range(2)]
        shown = {site: sets[self.data.draw(st.integers(0, 3), label="shown") == 3] for site in sorted(due)}
        words = Counter()
        for site, survivors in shown.items():
            enough = site in survivors and len(survivors) >= manifest.threshold
            if enough and (not due[site] or due[site] == tuple(sorted(survivors))):
                words[survivors] += 1
            else:
                shown[site] = frozenset()
        for survivors in filter(None, set(sets)):
            if words[survivors] + len(survivors & set(self.liars)) < manifest.threshold:
                continue
            asked = self.choose("asked for shares", [site for site in shown if shown[site] == survivors])
            for site in asked:
                release = Release(ctx, manifest.first_cohort, manifest.threshold, tuple(sorted(survivors)))
                self.records[site] = (*self.records.get(site, ()), release)
            if len(asked) + len(set(self.liars) & set(manifest.first_cohort)) >= manifest.threshold:
                self.opened.append((survivors, manifest.threshold - len(self.liars)))


@settings(deadline=None)
@given(st.data(), st.sampled_from([(4, 1), (5, 1), (6, 1), (6, 2), (7, 2)]), st.integers(2, 5))
def test_no_combination_of_sums_on_one_adapter_covers_fewer_than_t_less_c_honest_hospitals(data, size, rounds):
    n, c = size
    names = tuple("abcdefg"[:n])
    play = Play(data, names[: n - c], names[n - c :])
    for number in range(1, rounds + 1):
        play.round(number)
    if play.opened:
        least = min(covered for _, covered in play.opened)
        assert least >= 2
        assert covers_at_least([survivors for survivors, _ in play.opened], play.honest, least)


def test_the_oracle_sees_what_combinations_of_sums_cover():
    assert not covers_at_least(["ab", "bc", "ac"], "abc", 2), "A + B - (B + C) + A + C is twice A"
    assert not covers_at_least(["abc", "ab"], "abc", 2)
    assert covers_at_least(["abcd", "ab"], "abcd", 2)
    assert not covers_at_least(["abcd", "ab"], "abcd", 3)
    assert covers_at_least(["abc", "abc"], "abc", 3)
