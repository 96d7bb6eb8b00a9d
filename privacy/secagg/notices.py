"""Notice to hospitals that a run waits, in the encoding of the protocol's messages; no part of the protocol."""

import re
from typing import Annotated

from fedward.privacy.secagg.messages import Map, Message, Site, Text


class Waiting(Message):
    """For whom a run waits, told to the hospitals that are there; unsigned, shown to people and acted on by nobody."""

    run: Site
    waits_for: Annotated[dict[str, str], Map(Text(16, re.compile(r"FW(-[A-Z]+)?-[0-9]{3}")))]  # code by hospital
