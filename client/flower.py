"""Flower edge of the hospital: a ClientApp that hands each leg to the locally built hospital.

Nothing but a closed refusal code leaves on failure: exception texts may quote records.
"""

from __future__ import annotations

import logging
from typing import Protocol

from flwr.app import Context
from flwr.app import Message as FlowerMessage
from flwr.clientapp import ClientApp

from fedward.errors import FedwardError
from fedward.flower import pack_reply, unpack_request
from fedward.stages import Reply, Request, Stage

LOG = logging.getLogger(__name__)


class Site(Protocol):
    """What the Flower edge needs of a hospital (see ``fedward.client.hospital``)."""

    name: str

    def answer(self, request: Request) -> Reply:
        """Handles one leg; raises :class:`FedwardError` to refuse."""
        ...


def make_client_app(site: Site) -> ClientApp:
    """A Flower ClientApp that serves ``site`` and nothing else."""
    app = ClientApp()

    def handle(message: FlowerMessage, context: Context) -> FlowerMessage:
        stage = Stage.named(message.metadata.message_type.partition(".")[2])
        return FlowerMessage(pack_reply(answer_or_refuse(site, stage, message)), reply_to=message)

    for stage in Stage:
        app.train(stage.value)(handle)
    return app


def answer_or_refuse(site: Site, stage: Stage, message: FlowerMessage) -> Reply:
    """The site's reply, or the bare code of why there is none. Details go to the site's own log."""
    try:
        if stage is Stage.HELLO:
            return Reply(site.name.encode("ascii"))
        request = unpack_request(stage, message.content)
        if stage is Stage.ECHO:
            return Reply(request.payload, request.blobs)
        return site.answer(request)
    except FedwardError as error:
        LOG.warning("refused stage %s: %s", stage, error.code)
        return Reply(refusal=error.code)
    except Exception as error:
        LOG.error("stage %s failed: %s", stage, type(error).__name__)
        return Reply(refusal=FedwardError.code)
