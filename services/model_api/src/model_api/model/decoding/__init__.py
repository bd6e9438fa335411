"""Requests for a model: its MLflow signature, compiled once into a decoder of request bodies.

A body that is right is decoded by msgspec straight into the signature's types. Any other goes
through a second, slower reading whose only purpose is to say what is wrong, and where; it also
takes what msgspec does not know, such as the ``NaN`` of pandas' JSON.
"""

from model_api.model.decoding.decoder import Decoder
from model_api.model.decoding.reading import FORMATS, Reader

__all__ = ["FORMATS", "Decoder", "Reader"]
