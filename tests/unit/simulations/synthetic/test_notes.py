"""Running notes whose probability is known: equal to brute force, adding up to one, and never beaten by the drawn."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from fedward.simulations.synthetic import HospitalSpec, default_hospitals
from fedward.simulations.synthetic import note_phrases as said
from fedward.simulations.synthetic.hospital import SCENARIO_DOMAIN, stream
from fedward.simulations.synthetic.notes import (
    NoteGenerator,
    Slot,
    draw_noted_hospital,
    draw_notes,
    hospital_generator,
)


def ambiguous():
    """Two hidden classes, and texts that can be read in several ways: "ab" is a + b, ab + nothing, a + nothing + b."""
    return NoteGenerator(
        np.array([0.3, 0.7]),
        (
            Slot(("a", "ab", ""), np.array([[0.5, 0.1], [0.2, 0.6], [0.3, 0.3]])),
            Slot(("", "b", "a"), np.array([[0.4, 0.5], [0.5, 0.25], [0.1, 0.25]])),
            Slot(("", "b"), np.array([[0.9, 0.2], [0.1, 0.8]])),
        ),
    )


def small():
    """The first slots of a real hospital."""
    whole = hospital_generator(HospitalSpec("a", 5, covariate_shift=0.4), stream(1, 2), house=0.5)
    return replace(whole, slots=(whole.slots[0], whole.slots[1], *whole.slots[6:9], whole.slots[-2]))


def by_brute_force(generator):
    notes = defaultdict(float)
    for note, probability in generator.readings():
        notes[note] += probability
    return notes


@pytest.mark.parametrize("make", [ambiguous, small])
def test_the_probability_is_that_of_every_hidden_class_and_reading_together(make):
    generator, notes = make(), by_brute_force(make())
    assert math.fsum(notes.values()) == pytest.approx(1.0, abs=1e-12)
    for note, probability in notes.items():
        assert generator.probability(note) == pytest.approx(probability, rel=1e-12)


def test_other_texts_have_no_probability():
    assert ambiguous().probability("c") == ambiguous().probability("abba") == 0.0
    with pytest.raises(ValueError, match="does not write"):
        ambiguous().nats_per_character("c")


def test_notes_are_drawn_as_often_as_they_are_probable():
    generator, rng, n = ambiguous(), np.random.default_rng(0), 20_000
    drawn = defaultdict(int)
    for _ in range(n):
        drawn[generator.draw(rng)] += 1
    for note, probability in by_brute_force(generator).items():
        assert drawn[note] / n == pytest.approx(probability, abs=4 * math.sqrt(probability / n))


def test_a_slot_whose_shares_do_not_add_up_is_refused():
    with pytest.raises(ValueError, match="add up"):
        Slot(("a", "b"), np.array([[0.5], [0.6]]))
    with pytest.raises(ValueError, match="row of shares"):
        Slot(("a",), np.array([[0.5], [0.5]]))


def test_no_other_hospital_writes_a_hospitals_notes_better():
    first, second, *_ = draw_notes(default_hospitals(), 3)
    own = np.mean([first.generator.nats_per_character(note) for note in first.notes.values()])
    others = np.mean([second.generator.nats_per_character(note) for note in first.notes.values()])
    assert own < others
    assert set(first.truth()) == set(first.notes)


def test_a_hospital_depends_on_its_seed_place_and_spec_alone():
    specs = default_hospitals()
    assert draw_notes(specs, 1)[1].notes == draw_notes([specs[0], specs[1]], 1)[1].notes
    assert draw_notes(specs, 1)[1].notes != draw_notes(specs, 2)[1].notes
    assert set(draw_notes(specs, 1)[0].notes).isdisjoint(draw_notes(specs, 1)[1].notes)


def test_house_wordings_are_in_notes_of_scenarios_alone():
    spec = HospitalSpec("a", 300, covariate_shift=0.35)
    house = [*said.HOUSE_PRESENT.values(), *said.PLAN.house]

    def mentions(share):
        notes = draw_noted_hospital(spec, 0, (SCENARIO_DOMAIN, 1, 0), house=share).notes.values()
        return sum(text.lower() in note.lower() for note in notes for text in house)

    assert mentions(0.0) == 0
    assert mentions(0.55) > 300


def test_the_course_tells_something_of_the_findings():
    """Hidden risk is what they have in common, so that a model gains from reading on."""
    generator = hospital_generator(HospitalSpec("a", 5), stream(4), house=0.0)
    rng = np.random.default_rng(1)
    notes = [generator.draw(rng) for _ in range(3000)]
    grave = np.array([any(text in note for text in said.COURSE["high"].common) for note in notes])
    pressors = np.array([any(word in note for word in ("pressors", "norepinephrine", "Vasopressor")) for note in notes])
    assert pressors[grave].mean() > 1.5 * pressors[~grave].mean()
