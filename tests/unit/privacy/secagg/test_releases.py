"""What a hospital may still take part in after its shares have left: the rule alone, with counts at its edges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedward.privacy.secagg.journal import Release
from fedward.privacy.secagg.messages import MAX_RELEASED, Manifest, PackageHead
from fedward.privacy.secagg.releases import after_heads, check_manifest, needed, survivors_due
from tests.codes import raises

C = 1
SIX = tuple("abcdef")
HASH = bytes(32)
RELEASE = Release(b"1" * 32, SIX, 4, tuple("abcde"))


def manifest(cohort, first=None):
    """A round over ``cohort``; only the two cohorts matter here."""
    first = cohort if first is None else first
    hashes = dict.fromkeys(("roster_hash", "base_model_hash", "adapter_hash", "previous_result", "plan_hash"), HASH)
    numbers = {"epoch": 1, "round": 2, "attempt": 0, "seq": 2, "threshold": 4, "deadline": 0}
    rest = {"run": "run-1", "code_hash": HASH, "layout_hash": HASH, "segments": [], "mechanism": "none"}
    return Manifest(**hashes, **numbers, **rest, first_cohort=tuple(first), cohort=tuple(cohort))


def head(site, *released):
    hashes = dict.fromkeys(("ctx", "ledger_head", "fresh", "b", "R", "envelope_hash", "mail_hash"), HASH)
    return PackageHead(**hashes, site=site, b_shares={}, R_shares={}, pairs={}, released=tuple(released))


def heads(silent, listing=""):
    return {site: head(site) for site in silent} | {site: head(site, RELEASE.ctx) for site in listing}


def test_a_round_is_void_from_n0_less_t_plus_c_plus_one_heads_on():
    """Three of them may be a liar and the two that the threshold does not need."""
    assert needed(RELEASE, C) == 4
    assert not after_heads([RELEASE], heads("bcd", "ef"), C)[0].void
    assert after_heads([RELEASE], heads("bcde", "f"), C)[0].void


def test_heads_of_hospitals_outside_the_first_cohort_show_nothing():
    assert not after_heads([RELEASE], heads("bcdxyz"), C)[0].void


def test_a_head_that_lists_the_round_of_another_context_does_not_list_this_one():
    others = {site: head(site, b"2" * 32) for site in "bcde"}
    assert after_heads([RELEASE], others, C)[0].void


def test_what_is_void_stays_so():
    void = replace(RELEASE, void=True)
    assert after_heads([void], heads("", "bcdef"), C) == (void,)
    assert survivors_due([void], manifest("xyz"), ()) == ()
    check_manifest([void], manifest("xyz"), "a", C)


def test_the_same_first_cohort_is_summed_over_the_same_survivors():
    assert survivors_due([RELEASE], manifest(SIX), ()) == tuple("abcde")
    assert survivors_due([RELEASE, replace(RELEASE, ctx=HASH)], manifest(SIX), ()) == tuple("abcde")
    assert survivors_due([RELEASE], manifest("abcd", SIX), ()) == tuple("abcde")  # an attempt of the round again


@pytest.mark.parametrize("cohort", ["abcde", "abcdefg", "bcdefg"])
def test_another_first_cohort_is_refused(cohort):
    with raises("FW-SECAGG-046"):
        survivors_due([RELEASE], manifest(cohort), ())


def test_two_rounds_with_other_survivors_leave_no_third():
    with raises("FW-SECAGG-046"):
        survivors_due([RELEASE, Release(HASH, SIX, 4, tuple("abcd"))], manifest(SIX), ())


def test_hospitals_proven_to_have_lied_are_left_out_of_cohort_and_survivors():
    assert survivors_due([RELEASE], manifest("abcdf"), {"e"}) == tuple("abcd")
    for cohort in (SIX, "abcd"):  # with the liar, or without one that did not lie
        with raises("FW-SECAGG-046"):
            survivors_due([RELEASE], manifest(cohort), {"e"})


def test_a_round_is_refused_before_training_where_no_heads_could_allow_it():
    """Of the first cohort there must be enough others, or it must be the same one but for at most c liars."""
    check_manifest([RELEASE], manifest("abcdexy"), "a", C)
    check_manifest([RELEASE], manifest("abcdf"), "a", C)
    for cohort in ("abcdxyz", "abcd", "axyz"):
        with raises("FW-SECAGG-046"):
            check_manifest([RELEASE], manifest(cohort), "a", C)


def test_as_many_rounds_as_are_remembered_are_the_last():
    many = [Release(bytes([i]) * 32, SIX, 4, SIX) for i in range(MAX_RELEASED)]
    check_manifest(many[1:], manifest(SIX), "a", C)
    with raises("FW-SECAGG-045"):
        check_manifest(many, manifest(SIX), "a", C)
