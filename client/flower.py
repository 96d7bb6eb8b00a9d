"""Flower edge of the hospital: a ClientApp that answers each leg, and the loop that serves it as a Flower node.

A message only ever selects one of the legs this site has installed; nothing it carries is executed, and the code
bundle that a Flower run comes with is never asked for. Nothing but a closed refusal code leaves on failure: exception
texts may quote records. The link may break, the SuperLink may restart, the coordinator may refuse: the loop comes back
with growing pauses until it is stopped.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedward.client.fleet import FleetSession, Incoming, MalformedObjectError, NodeKeys
from fedward.client.link import Endpoint, Limits, OversizedMessageError, RunOverError
from fedward.errors import FedwardError, PolicyError
from fedward.flower import message_type, pack_reply, unpack_request
from fedward.messages import Reply, Request, Stage
from fedward.privacy.secagg.notices import Waiting

LOG = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
SERVED = frozenset(message_type(stage) for stage in Stage)


TAKES_NO_PART = "FW-POLICY-022"
"""All that a coordinator hears where the reason depends on records: codes that flip with one patient tell of it."""


class UnservedMessageError(PolicyError, code="FW-POLICY-201"):
    """A message asks for something that this site does not serve; its content was not fetched, let alone run."""


class Site(Protocol):
    """What the Flower edge needs of a hospital (see ``fedward.client.hospital``)."""

    name: str

    def answer(self, request: Request) -> Reply:
        """Handles one leg; raises :class:`FedwardError` to refuse."""
        ...


Notice = Callable[[Waiting], None]


def make_client_app(site: Site, on_notice: Notice = lambda notice: None) -> ClientApp:
    """A Flower ClientApp that serves ``site`` and nothing else; ``on_notice`` is told for whom a run waits."""
    app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        stage = Stage.named(message.metadata.message_type.partition(".")[2])
        return Message(pack_reply(answer_or_refuse(site, stage, message, on_notice)), reply_to=message)

    for stage in Stage:
        app.train(stage.value)(handle)
    return app


def answer_or_refuse(site: Site, stage: Stage, message: Message, on_notice: Notice = lambda notice: None) -> Reply:
    """The site's reply, or the bare code of why there is none. Details go to the site's own log.

    Of a reason that depends on records, and of a failure that nobody foresaw and one record may have caused, only
    :data:`TAKES_NO_PART` leaves.
    """
    try:
        request = unpack_request(stage, message.content)
        if stage is Stage.HELLO:
            if request.payload:
                on_notice(Waiting.from_bytes(request.payload))
            return Reply(site.name.encode("ascii"))
        if stage is Stage.ECHO:
            return Reply(request.payload, request.blobs)
        return site.answer(request)
    except FedwardError as error:
        LOG.warning("refused stage %s: %s", stage, error.code)
        return Reply(refusal=TAKES_NO_PART if error.of_records else error.code)
    except Exception as error:
        LOG.error("stage %s failed: %s", stage, type(error).__name__)
        return Reply(refusal=TAKES_NO_PART)


def serve(
    app: ClientApp,
    endpoint: Endpoint,
    *,
    stop: threading.Event,  # ends the loop, also while it waits or retries; a leg that is being answered is finished
    keys: NodeKeys | None = None,  # the node key that the coordinator has admitted (P-384)
    poll_seconds: float = 0.1,  # pause between two questions for work
    limits: Limits | None = None,  # what is accepted from the coordinator
    node_file: Path | None = None,  # see FleetSession
    on_online: Callable[[int], None] = lambda node: None,  # called with the node id after each activation
    on_poll: Callable[[], None] = lambda: None,  # called before each question and attempt to connect: it is alive
) -> None:
    """Serves ``app``, built by :func:`make_client_app`, until ``stop`` is set.

    Without ``keys`` a fresh key registers itself, which only a SuperLink without node authentication accepts.
    """
    pair, limits, pause = keys or _fresh_keys(), limits or Limits(), FIRST_PAUSE_SECONDS
    while not stop.is_set():
        on_poll()
        session = FleetSession(endpoint, pair, stop, limits=limits, self_register=keys is None, node_file=node_file)
        try:
            with session:
                pause = FIRST_PAUSE_SECONDS
                LOG.info("online as node %d", session.node_id)
                on_online(session.node_id)
                _serve_session(session, app, stop, poll_seconds, on_poll)
        except Exception as error:
            # Whatever the other side made a library stumble over, this site comes back; the text may quote records.
            cause = error.code if isinstance(error, FedwardError) else type(error).__name__
            LOG.warning("offline: %s; next attempt in %.0f s", cause, pause)
            stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _serve_session(
    session: FleetSession, app: ClientApp, stop: threading.Event, poll_seconds: float, on_poll: Callable[[], None]
) -> None:
    context: Context | None = None
    while not (stop.is_set() or session.lost.is_set()):
        on_poll()
        incoming = session.receive()
        if incoming is None:
            stop.wait(poll_seconds)
            continue
        if context is None or context.run_id != incoming.run_id:
            # What a site remembers of a run is in its own journal; nothing outlives the run here.
            context = Context(incoming.run_id, session.node_id, {}, RecordDict(), {})
        try:
            _answer(session, app, incoming, context)
        except (RunOverError, OversizedMessageError, MalformedObjectError, UnservedMessageError) as error:
            LOG.warning("dropped a message: %s", error.code)


def _answer(session: FleetSession, app: ClientApp, incoming: Incoming, context: Context) -> None:
    if incoming.message_type not in SERVED:
        session.confirm(incoming)
        raise UnservedMessageError("A message asks for something that this site does not serve.")
    message = session.fetch(incoming)
    try:
        reply = app(message, context)
    except Exception as error:
        # The app turns its own failures into refusal codes; whatever else goes wrong stays here.
        LOG.error("no reply: %s", type(error).__name__)
        return
    session.send(reply)


def _fresh_keys() -> NodeKeys:
    private = ec.generate_private_key(ec.SECP384R1())
    return private, private.public_key()
