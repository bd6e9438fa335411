"""Decodes requests for a model: its MLflow signature is compiled once into a decoder.

msgspec decodes a valid body directly into the signature's types. Any other body goes through a
second, slower reading, which says what is wrong and where. It also accepts values that msgspec does
not know, such as the ``NaN`` of pandas' JSON.
"""

from model_api.model.decoding.decoder import Decoder
from model_api.model.decoding.reading import FORMATS, Reader

__all__ = ["FORMATS", "Decoder", "Reader"]
