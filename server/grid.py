"""Flower edge of the coordinator: pulls replies from a SuperLink one at a time, and only complete ones.

flwr's own pull unfolds every announced reply before it returns any, and waits up to minutes for a hospital
that has announced a reply but not finished its upload. Here a reply counts as arrived when its last
object, the root, is there; then it is pulled, handed on and forgotten before the next one is touched, so
memory does not grow with the number of hospitals and a slow upload delays nobody else.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from flwr.app import Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushAppMessagesRequest
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import HttpGrid

from fedward.errors import NetworkError
from fedward.flower import MAX_CALLS, Objects, let_go
from fedward.server.reply_assembly import Unfolding

STRAGGLING_OBJECT_SECONDS = 5.0
RETRY_SECONDS = 0.05


class StreamingGrid:
    """The calls of :class:`flwr.serverapp.Grid` that a transport needs, over flwr's HTTP grid."""

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid
        self._announced: dict[str, tuple[str, ObjectTree]] = {}

    def get_node_ids(self) -> Iterable[int]:
        """Nodes that are online."""
        return list(self._grid.get_node_ids())

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str) -> Message:
        """Builds an instruction message."""
        return Message(content, dst_node_id, message_type, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Announces messages together and stores their objects one by one; returns the messages' ids in order.

        flwr's own way has copies of all objects waiting. The messages are empty afterwards.
        """
        pushed = list(messages)
        objects: dict[str, InflatableObject] = {}
        client = self._grid._runtime_client
        with no_object_id_recompute():
            for message in pushed:
                message.metadata.__dict__["_message_id"] = message.object_id
                objects |= get_all_nested_objects(message)
            answer = client.PushMessages(
                PushAppMessagesRequest(
                    messages_list=[message_to_proto(remove_content_from_message(message)) for message in pushed],
                    message_object_trees=[get_object_tree(message) for message in pushed],
                )
            )
            missing = set(answer.objects_to_push)
            contents = ((key, objects.pop(key).deflate()) for key in list(objects) if key in missing)
            if not self._objects().push(contents, answer.session_id):
                raise NetworkError("The SuperLink did not take a message for a hospital.", code="FW-NET-213")
        for message in pushed:
            let_go(message.content)
        return list(answer.message_ids)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yields the replies to ``message_ids`` that are complete; a reply that cannot be unfolded is dropped."""
        wanted = set(message_ids)
        self._announced = {asked: found for asked, found in self._announced.items() if asked in wanted}
        unannounced = wanted - self._announced.keys()
        if unannounced:
            answer = self._grid._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=unannounced))
            for header, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
                self._announced[header.metadata.reply_to_message_id] = (header.metadata.message_id, tree)
        for asked in list(self._announced):
            message_id, tree = self._announced[asked]
            try:
                message = self._pull(message_id, tree)
            except ObjectUnavailableError:
                continue
            except (ObjectPullError, ValueError, LookupError, TypeError, AttributeError):
                del self._announced[asked]
                continue
            del self._announced[asked]
            yield message
            if message.has_content():
                let_go(message.content)

    def _objects(self) -> Objects:
        return Objects(self._grid._runtime_client, "runtime", self._grid.node, self._grid.run.run_id)

    def _pull(self, message_id: str, tree: ObjectTree) -> Message:
        run_id, node = self._grid.run.run_id, self._grid.node
        announced = list(dict.fromkeys(part.object_id for part in iterate_object_tree(tree)))
        together = announced if len(announced) <= MAX_CALLS else [tree.object_id]
        contents = self._fetch(together)
        if any(content is None for content in contents.values()):
            raise ObjectUnavailableError(tree.object_id)
        deadline = time.monotonic() + STRAGGLING_OBJECT_SECONDS

        def pull(object_id: str) -> bytes:
            content = contents.pop(object_id, None)
            while content is None:
                (content,) = self._fetch([object_id]).values()
                if content is None:
                    if time.monotonic() > deadline:
                        raise ObjectPullError(object_id, "a part of a complete reply is not there")
                    time.sleep(RETRY_SECONDS)
            return content

        message = Unfolding(pull, announced).message(pull(tree.object_id))
        self._grid._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=node, run_id=run_id, message_object_id=message_id)
        )
        message.metadata.__dict__["_message_id"] = message_id
        return message

    def _fetch(self, object_ids: Sequence[str]) -> dict[str, bytes | None]:
        """Contents by id; None where an object has been announced only. Raises ObjectPullError."""
        answers = self._objects().pull(object_ids)
        for object_id, answer in answers.items():
            if not answer.object_found:
                raise ObjectPullError(object_id, "an object of a reply does not exist")
        return {key: answer.object_content if answer.object_available else None for key, answer in answers.items()}


def streaming(grid: Grid) -> Grid | StreamingGrid:
    """``grid``, replaced by a streaming one where it leads to a SuperLink."""
    return StreamingGrid(grid) if isinstance(grid, HttpGrid) else grid
