"""The laws, on a method over inserts."""

import adaptr.testing


class TestAdapterFusion(adaptr.testing.Laws):
    method = "adapter-fusion"
    children = {
        "law": ("houlsby", ["ffn_out"], {"m": 4}),
        "code": ("parallel", ["ffn_out"], {"m": 5}),
    }
