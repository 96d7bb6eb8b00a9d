"""The code that a hostile coordinator puts into a Flower bundle: a relay for the test, and a trap for a hospital.

Its ServerApp sends whatever the test writes into the folder that the run's ``job`` names. Its ClientApp
leaves a file, should any hospital ever run it.
"""

import json
import os
import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

server, client = ServerApp(), ClientApp()


@client.train()
def trap(message, context):
    Path("@TRAP@").touch()
    return Message(RecordDict(), reply_to=message)


def content_of(ask):
    content = RecordDict({"control": ConfigRecord({"payload": bytes.fromhex(ask["payload"])})})
    if data := bytes.fromhex(ask["array"]):
        array = Array(dtype="uint8", shape=(len(data),), stype=ask["stype"], data=data)
        content["blobs"] = ArrayRecord({"vector": array})
    return content


def answer(grid, ask):
    message = Message(content_of(ask), ask["node"], ask["type"], group_id="hostile")
    (sent,) = grid.push_messages([message])
    deadline = time.monotonic() + ask["seconds"]
    while time.monotonic() < deadline:
        for reply in grid.pull_messages([sent]):
            if reply.has_error():
                return {"error": reply.error.code}
            control = reply.content.config_records["control"]
            return {"payload": control["payload"].hex(), "refusal": control["refusal"]}
        time.sleep(0.02)
    return {}


@server.main()
def main(grid, context):
    folder, parent = Path(str(context.run_config["job"])), os.getppid()
    while os.getppid() == parent:
        for path in sorted(folder.glob("*.ask")):
            ask = json.loads(path.read_text())
            path.unlink()
            draft = path.with_suffix(".part")
            try:
                told = answer(grid, ask)
            except Exception as error:
                told = {"error": repr(error)}
            draft.write_text(json.dumps(told))
            draft.replace(path.with_suffix(".answer"))
        time.sleep(0.02)
