"""How values of one type become bytes and back, and whether that keeps them as they are."""

from asyncwb.encoding.comparing import difference
from asyncwb.encoding.dialect import Dialect
from asyncwb.encoding.plain import msgspec_dialect, raw_dialect
from asyncwb.encoding.pydantic import pydantic_dialect, uses_pydantic

__all__ = ["Dialect", "difference", "msgspec_dialect", "pydantic_dialect", "raw_dialect", "uses_pydantic"]
