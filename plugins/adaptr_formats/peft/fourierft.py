"""PEFT's FOURIERFT: method `fourierft`."""

from __future__ import annotations

from adaptr.foreign.peft.types import Field
from adaptr_formats.peft._spectrum import Spectral


class FourierFT(Spectral):
    name = "fourierft"
    methods = ("fourierft",)
    slots = {"c": "fourierft_spectrum"}
    table = {
        "s": Field("scaling", default=150.0, called="scales"),
        "loc_seed": Field("random_loc_seed", int, 777, called="seeds of places"),
    }
