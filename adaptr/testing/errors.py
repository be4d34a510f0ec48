"""The laws of errors: a page that says what went wrong, the exit code of the family, a message that is harmless."""

from __future__ import annotations

import pickle
from typing import ClassVar

from adaptr import errors
from adaptr.cli import error_pages
from adaptr.errors import AdaptrError

#: What a terminal would obey, as a file may say it.
HOSTILE = "a\x1b[31m\u202eb"


class ErrorLaws:
    """One test a law. `error`: the name that its page is registered by, which is that of its class."""

    error: ClassVar[str]

    @property
    def kind(self) -> type[AdaptrError]:
        found: type[AdaptrError] = error_pages.SORT.found(self.error)
        return found

    def made(self, text: str) -> AdaptrError:
        """One whose message quotes `text`, where the class is not made from a sentence."""
        return self.kind(f"`{text}` is wrong")

    def test_law_1_its_page_is_found_and_says_what_went_wrong_in_a_sentence(self) -> None:
        page = error_pages.page(self.error)
        assert (page.name, page.exit_code) == (self.error, self.kind.exit_code)
        assert page.meaning.endswith(".")
        assert [one.name for one in error_pages.pages()[0]].count(self.error) == 1
        assert not [one for one in error_pages.pages()[1] if one.name == self.error]

    def test_law_2_its_exit_code_is_that_of_its_family(self) -> None:
        branches = [one for one in self.kind.__mro__ if AdaptrError in one.__bases__]
        assert len(branches) == (self.kind is not AdaptrError)
        assert all(self.kind.exit_code == one.exit_code for one in branches)  # type: ignore[attr-defined]
        assert all(getattr(errors, one.__name__) is one for one in branches)

    def test_law_3_its_message_is_whole_and_harmless(self) -> None:
        said = str(self.made(HOSTILE))
        assert said
        assert "\x1b" not in said
        assert "\u202e" not in said

    def test_law_4_it_comes_from_another_process_as_it_is(self) -> None:
        made = self.made("x")
        again = pickle.loads(pickle.dumps(made))
        assert type(again) is self.kind
        assert (str(again), again.parts) == (str(made), made.parts)
