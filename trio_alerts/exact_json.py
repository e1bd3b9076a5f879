"""JSON that loses nothing: every number keeps all its digits."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any

import msgspec

Json = msgspec.Raw  # JSON of any shape, rendered by us; empty if there is none
Timestamp = Annotated[dt.datetime, msgspec.Meta(tz=True)]

# `float_hook` and `decimal_format` together keep every digit; msgspec keeps large integers exact by itself.
encode = msgspec.json.Encoder(decimal_format="number").encode
decode_value = msgspec.json.Decoder(float_hook=Decimal).decode
decode_object = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
