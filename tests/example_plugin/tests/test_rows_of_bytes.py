"""The laws, on a packing of one's own."""

import torch

import adaptr.testing


class TestBytes(adaptr.testing.PackingLaws):
    packing = "bytes"

    def packed(self, W):
        scale = W.abs().amax(1) / 127
        return {"weight": (W / scale[:, None]).round().to(torch.int8), "weight_scale": scale}
