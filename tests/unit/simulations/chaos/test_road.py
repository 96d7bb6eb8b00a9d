"""The socket of a chaos federation: requests and replies arrive whole, and whoever is lost is said to be gone."""

import socket
import threading

import numpy as np
import pytest

from fedward.errors import PolicyError
from fedward.messages import MalformedMessageError, Reply, Request, Stage, encode
from fedward.simulations.chaos.road import SocketTransport, pack, serve_over, unpack
from tests.codes import raises


class Site:
    """Returns what it is sent; refuses the stage confirm, and stumbles over the stage unmask."""

    name = "site-0"

    def answer(self, request):
        if request.stage is Stage.CONFIRM:
            raise PolicyError("No.", code="FW-POLICY-010")
        if request.stage is Stage.UNMASK:
            raise KeyError(request.stage)
        return Reply(request.payload, request.blobs)


@pytest.fixture
def lone(tmp_path):
    """A coordinator's end to which nobody has come, and how a hospital begins to come."""
    made, stop, threads = SocketTransport(tmp_path / "road"), threading.Event(), []

    def serve():
        threads.append(threading.Thread(target=serve_over, args=(tmp_path / "road", Site(), stop), daemon=True))
        threads[-1].start()
        made.discover(["site-0"], seconds=60)

    yield made, serve
    stop.set()
    made.close()
    for thread in threads:
        thread.join()


@pytest.fixture
def transport(lone):
    made, serve = lone
    serve()
    return made


def ask(transport, stage, **blobs):
    (answer,) = transport.exchange([("site-0", Request(stage, b"words", blobs))], seconds=60)
    return answer


def test_what_is_asked_is_answered_with_its_arrays(transport):
    blob = np.arange(200, dtype=np.uint8)
    site, reply = ask(transport, Stage.MASK, vector=blob)
    assert (site, reply.payload, reply.refusal) == ("site-0", b"words", "")
    np.testing.assert_array_equal(reply.blobs["vector"], blob)


@pytest.mark.parametrize(("stage", "code"), [(Stage.CONFIRM, "FW-POLICY-010"), (Stage.UNMASK, "FW-POLICY-022")])
def test_a_refusal_comes_as_its_code_and_a_failure_tells_nothing(transport, stage, code):
    assert ask(transport, stage)[1].refusal == code


def test_who_is_not_there_is_gone_and_a_run_does_not_begin_without_enough(transport):
    (answer,) = transport.exchange([("site-1", Request(Stage.JOIN, b""))], seconds=60)
    assert answer == ("site-1", Reply(refusal="FW-NET-212"))
    missing = []
    with raises("FW-TIME-002"):
        transport.discover(["site-0", "site-1"], seconds=0, on_missing=missing.append)
    assert missing == [{"site-1"}]
    transport.discover(["site-0", "site-1"], seconds=0, enough=1)


def test_a_hospital_that_dies_while_it_is_asked_is_gone_and_another_takes_its_name(lone, tmp_path):
    transport, serve = lone
    with socket.socket(socket.AF_UNIX) as dying:
        dying.connect(str(tmp_path / "road"))
        dying.sendall(pack("", b"site-0"))
        transport.discover(["site-0"], seconds=60)
    assert ask(transport, Stage.JOIN)[1].refusal == "FW-NET-212"
    serve()
    assert ask(transport, Stage.JOIN)[1].payload == b"words"


@pytest.mark.parametrize("body", [b"", encode([]), encode({"words": 1, "payload": b"", "blobs": {}})])
def test_what_is_no_frame_is_refused(body):
    with pytest.raises(MalformedMessageError):
        unpack(body)
