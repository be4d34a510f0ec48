"""The laws, on a format of one's own."""

import adaptr.testing


class TestPlain(adaptr.testing.FormatLaws):
    format = "plain"
