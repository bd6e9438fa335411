"""Names for what JSON holds."""

from typing import Any

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None
"""Any value of JSON."""
type JsonObject = dict[str, Any]
"""An object of JSON whose members are as different as what they describe."""
