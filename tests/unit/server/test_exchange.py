"""Requests between coordinator and hospitals: what counts, what is noted, and what memory they hold."""

import weakref

import numpy as np

from fedward.errors import PolicyError
from fedward.messages import Reply, Stage
from fedward.server.history import History
from fedward.server.rounds import Exchange, Incident

MESSAGES = {"a": b"1", "b": b"2", "c": b"3"}


class Wire:
    """A transport that answers what a function of the site makes."""

    def __init__(self, answer):
        self.answer, self.seconds = answer, []

    def exchange(self, requests, *, seconds):
        self.seconds.append(seconds)
        for site, request in requests:
            yield site, self.answer(site, request)


def exchange(answer):
    return Exchange(Wire(answer), History(members=MESSAGES), seconds=7)


def test_each_site_gets_its_message_and_the_seconds_of_a_stage():
    asked = exchange(lambda site, request: Reply(request.payload + request.stage.encode()))
    replies = {site: reply.payload for site, reply in asked.ask(Stage.MASK, MESSAGES)}
    assert replies == {"a": b"1mask", "b": b"2mask", "c": b"3mask"}
    assert asked._transport.seconds == [7]
    assert asked.incidents == []


def test_a_refusal_is_an_incident_and_what_came_with_it_a_complaint():
    asked, complaints = exchange(lambda site, request: Reply(b"why", refusal="FW-X") if site == "b" else Reply(b"")), []
    asked.round = 3
    heard = [s for s, _ in asked.ask(Stage.MASK, MESSAGES, complain=lambda site, text: complaints.append((site, text)))]
    assert heard == ["a", "c"]
    assert complaints == [("b", b"why")]
    assert asked.incidents == [Incident(3, Stage.MASK, "b", "FW-X")]


def test_a_reply_that_the_protocol_refuses_does_not_count():
    asked = exchange(lambda site, request: Reply(b""))

    def add(site, payload):
        raise PolicyError("no")

    assert not asked.take(Stage.MASK, "a", add, b"")
    assert asked.take(Stage.MASK, "a", lambda site, payload: None, b"")
    assert asked.incidents == [Incident(0, Stage.MASK, "a", PolicyError.code)]


def test_a_reply_is_gone_when_the_next_one_arrives():
    """Masked vectors of all hospitals together may not fit into memory."""
    alive = []

    def answer(site, request):
        assert all(ref() is None for ref in alive)
        vector = np.zeros(8)
        alive.append(weakref.ref(vector))
        return Reply(b"", {"vector": vector})

    for _, reply in exchange(answer).ask(Stage.MASK, MESSAGES):
        del reply
    assert len(alive) == 3
