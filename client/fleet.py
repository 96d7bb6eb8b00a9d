"""Flower edge of the hospital: a node's connection to the fleet routes of a SuperLink.

The only file of the client that uses flwr's internals, so flwr is pinned exactly and an integration
test runs this file against a real SuperLink. The messages, routes and node signatures are flwr's. Its
ready-made connection (``flwr.supernode``) is not used: a refused activation ends the process by
``os._exit``, a server's 401 makes it interrupt itself, retries cannot be stopped, the environment
chooses the proxy, redirects are followed, contents are not compared with their hash, and no response
is too large. Nothing here asks for a FAB: a hospital never fetches code.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto import fleet_pb2
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable import inflatable_object
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
    pull_objects,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from fedward.client.link import (
    Endpoint,
    Limits,
    LinkLostError,
    NodeRefusedError,
    OversizedMessageError,
    Patience,
    RunOverError,
    open_http,
)
from fedward.errors import FedwardError, IntegrityError
from fedward.failpoints import failpoint
from fedward.flower import MAX_CALLS, Objects

HEARTBEAT_SECONDS = 30.0
NodeKeys = tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey]


class MalformedObjectError(IntegrityError, code="FW-INTEGRITY-201"):
    """An object of a message contradicts its hash or its own structure."""


@dataclass(frozen=True)
class Incoming:
    """The header of a message whose content has not been pulled yet."""

    run_id: int
    message_id: str
    message_type: str
    tree: ObjectTree


@dataclass(eq=False, repr=False)
class FleetSession:
    """One activation of a node. Use as a context manager; leaving it deactivates the node."""

    endpoint: Endpoint
    keys: NodeKeys  # the node's NIST elliptic curve key pair; one process per key
    stop: threading.Event  # ends waiting and retrying when set
    _: KW_ONLY
    limits: Limits
    self_register: bool  # registers the key first; a SuperLink with node authentication refuses that
    node_file: Path | None  # remembers the node id, so that a node that was killed can end its own stale activation

    def __post_init__(self) -> None:
        patience = Patience(self.stop, self.limits.patience_seconds)
        self._client = _Client(self.endpoint, self.keys, patience, self.limits)
        self._public_key, self._node = public_key_to_bytes(self.keys[1]), Node()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._closed, self.lost = threading.Event(), threading.Event()

    @property
    def node_id(self) -> int:
        """The id under which the SuperLink knows this node."""
        return int(self._node.node_id)

    def __enter__(self) -> Self:
        try:
            if self.self_register:
                # Refused where it is registered already, or not allowed to: the activation decides.
                with contextlib.suppress(NodeRefusedError, RunOverError):
                    self._client.RegisterNode(fleet_pb2.RegisterNodeFleetRequest(public_key=self._public_key))
            self._node = Node(node_id=self._activate())
        except BaseException:
            self._client.close()
            raise
        if self.node_file is not None:
            self.node_file.write_text(str(self.node_id), encoding="ascii")
        self._heart.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        self._client.impatient()
        self._heart.join()
        try:
            with contextlib.suppress(FedwardError):
                self._client.DeactivateNode(fleet_pb2.DeactivateNodeRequest(node_id=self.node_id))
        finally:
            self._client.close()

    def receive(self) -> Incoming | None:
        """The next message's header, if there is one. Raises :class:`LinkLostError`, :class:`NodeRefusedError`."""
        answer = self._client.PullMessages(fleet_pb2.PullMessagesRequest(node=self._node))
        if not answer.messages_list:
            return None
        if not answer.message_object_trees:
            raise MalformedObjectError("A message came without the list of its objects.")
        header = answer.messages_list[0].metadata
        return Incoming(header.run_id, header.message_id, header.message_type, answer.message_object_trees[0])

    def fetch(self, incoming: Incoming) -> Message:
        """Pulls and unfolds the content.

        Raises OversizedMessageError (too many objects or bytes), MalformedObjectError (an object is not what its hash
        says, or not of Flower's closed set of types), RunOverError, LinkLostError, NodeRefusedError.
        """
        ids = list(dict.fromkeys(node.object_id for node in inflatable_object.iterate_object_tree(incoming.tree)))
        if len(ids) > self.limits.objects:
            raise OversizedMessageError("A message has more objects than this site accepts.")
        if incoming.message_id not in ids:
            raise MalformedObjectError("A message is not the root of its own objects.")
        objects = Objects(self._client, "fleet", self._node, incoming.run_id)
        pull = _Pull(objects, self.limits.message_bytes)
        try:
            contents = pull.together(ids) if len(ids) <= MAX_CALLS else {}
            late = [object_id for object_id in ids if object_id not in contents]
            if late:
                contents |= pull_objects(
                    late, pull.one, max_time=self.limits.patience_seconds, initial_backoff=0.05, backoff_cap=2.0
                )
        except ObjectPullError as error:
            raise MalformedObjectError("An object of a message was announced but never came.") from error
        self.confirm(incoming)
        return _unfold(incoming, contents, self.limits.message_bytes)

    def confirm(self, incoming: Incoming) -> None:
        """Lets the SuperLink delete the message."""
        run, message = incoming.run_id, incoming.message_id
        request = ConfirmMessageReceivedRequest(node=self._node, run_id=run, message_object_id=message)
        failpoint("confirm", "before")
        self._client.ConfirmMessageReceived(request)
        failpoint("confirm", "after")

    def send(self, reply: Message) -> None:
        """Pushes a reply and its objects. The time it took to make is not reported. Raises like :meth:`receive`."""
        run_id = reply.metadata.run_id
        failpoint("send", "before")
        with inflatable_object.no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            header = message_to_proto(remove_content_from_message(reply))
            tree = inflatable_object.get_object_tree(reply)
            request = fleet_pb2.PushMessagesRequest(
                node=self._node, messages_list=[header], message_object_trees=[tree]
            )
            answer = self._client.PushMessages(request)
            failpoint("send", "amid")
            parts, missing = inflatable_object.get_all_nested_objects(reply), set(answer.objects_to_push)
            contents = ((key, part.deflate()) for key, part in parts.items() if key in missing)
            try:
                stored = Objects(self._client, "fleet", self._node, run_id).push(contents, answer.session_id)
            except ValueError as error:
                raise MalformedObjectError("The coordinator's answer to an upload is malformed.") from error
        if not stored:
            raise RunOverError("The coordinator no longer accepts this reply.")
        failpoint("send", "after")

    def _activate(self) -> int:
        request = fleet_pb2.ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=HEARTBEAT_SECONDS)
        try:
            return int(self._client.ActivateNode(request).node_id)
        except NodeRefusedError:
            stale = self._last_node()
            if stale is None:
                raise
        self._client.DeactivateNode(fleet_pb2.DeactivateNodeRequest(node_id=stale))
        return int(self._client.ActivateNode(request).node_id)

    def _last_node(self) -> int | None:
        try:
            return None if self.node_file is None else int(self.node_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS / 2):
            request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_SECONDS)
            try:
                known = self._client.SendNodeHeartbeat(request).success
            except LinkLostError:
                continue
            except FedwardError:
                known = False
            if not known:
                self.lost.set()


class _Pull:
    """Pulls objects of one message, and believes no more than their hashes."""

    def __init__(self, objects: Objects, max_bytes: int) -> None:
        self._objects, self._left = objects, max_bytes
        self._lock = threading.Lock()

    def together(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Contents of those that are there; raises MalformedObjectError, OversizedMessageError."""
        try:
            answers = self._objects.pull(ids)
        except ValueError as error:
            raise MalformedObjectError("The coordinator's answer to a download is malformed.") from error
        ready = {key: answer for key, answer in answers.items() if answer.object_available or not answer.object_found}
        return {object_id: self._checked(object_id, answer) for object_id, answer in ready.items()}

    def one(self, object_id: str) -> bytes:
        """The content; raises flwr's ObjectUnavailableError where it has been announced only."""
        try:
            return self.together([object_id])[object_id]
        except KeyError:
            raise ObjectUnavailableError(object_id) from None

    def _checked(self, object_id: str, answer: PullObjectResponse) -> bytes:
        if not answer.object_found:
            raise MalformedObjectError("An object of a message does not exist.")
        content = bytes(answer.object_content)
        with self._lock:
            self._left -= len(content)
            if self._left < 0:
                raise OversizedMessageError("A message has more bytes than this site accepts.")
        if hashlib.sha256(content).hexdigest() != object_id:
            raise MalformedObjectError("An object of a message contradicts its hash.")
        return content


def _unfold(incoming: Incoming, contents: dict[str, bytes], max_bytes: int) -> Message:
    try:
        _check_unfolded_size(contents, max_bytes)
        message = inflate_object_from_contents(incoming.message_id, contents)
    except OversizedMessageError:
        raise
    except Exception as error:
        raise MalformedObjectError("A message cannot be unfolded.") from error
    if not isinstance(message, Message) or not message.has_content():
        raise MalformedObjectError("An object that should be a message is not.")
    arrays = (array for record in message.content.array_records.values() for array in record.values())
    if sum(len(array.data) for array in arrays) > max_bytes:
        raise OversizedMessageError("A message unfolds to more bytes than this site accepts.")
    if (message.metadata.run_id, message.metadata.message_type) != (incoming.run_id, incoming.message_type):
        raise MalformedObjectError("A message contradicts its own header.")
    message.metadata.__dict__["_message_id"] = incoming.message_id
    return message


def _check_unfolded_size(contents: dict[str, bytes], max_bytes: int) -> None:
    """An array may name one chunk many times, so a small message can unfold to a huge one."""
    total = 0
    for content in contents.values():
        kind, children, _ = inflatable_object.get_object_head_values_from_object_content(content)
        if kind == Array.__qualname__:
            body = json.loads(inflatable_object.get_object_body(content, Array))
            total += sum(len(contents[children[index]]) for index in body["arraychunk_ids"])
            if total > max_bytes:
                raise OversizedMessageError("A message unfolds to more bytes than this site accepts.")


class _Client(FleetHttpClient):  # type: ignore[misc]  # mypy does not follow flwr
    """flwr's fleet client over an HTTP client that this site configured."""

    def __init__(self, endpoint: Endpoint, keys: NodeKeys, patience: Patience, limits: Limits) -> None:
        # The parent's constructor is left out: it builds an HTTP client that asks the environment for
        # proxies and follows redirects.
        self._base_url = f"{'http' if endpoint.insecure else 'https'}://{endpoint.address}"
        self._interceptors = (RuntimeVersionHttpInterceptor(component_name="SuperNode"), NodeAuthHttpInterceptor(*keys))
        self._retry_invoker = patience
        self._client = open_http(endpoint, limits)

    def _unary_unary(self, **call: Any) -> Any:
        """Every answer comes through here; one that is no protobuf message has a code like any other fault."""
        try:
            return super()._unary_unary(**call)
        except ValueError as error:
            raise MalformedObjectError("An answer of the coordinator cannot be read.") from error

    def impatient(self) -> None:
        """From now on every request is tried once."""
        self._retry_invoker.seconds = 0.0
