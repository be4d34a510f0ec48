"""What one forward of a model, or of a stack of it, knows: read by formulas as `p.context` (decision 0018)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from adaptr.errors import MissingContext, Unsupported, UsageError
from adaptr.host.call import find
from adaptr.host.draws import hashed
from adaptr.host.further import further
from adaptr.host.generating import refuse_unknown

if TYPE_CHECKING:
    from adaptr.host.draws import Draws
    from adaptr.host.state import State

T = TypeVar("T")
#: Where state between forwards lives on a cache.
CARRIED = "_adaptr_carried"


class Context:
    """Of a call with `given` arguments, by name. `two`: whether it is of a model of two stacks, and of neither of them.

    `mask`: as given, (batch, all tokens), ready-made (batch, 1, tokens, all), or None. `cache`: or None. `offset`:
    tokens in the cache, a number or a tensor. `taps`: what modules have put out. `carried`: what earlier forwards over
    this cache have left, by name. `left`: what this one leaves. `began`: how many columns the text had
    that an invocation of `generate` without a cache began with, None outside of one. `told`: what an encoder's forward
    tells its decoder's, by name; `encoder_mask`: of a decoder, of the tokens of its encoder.
    """

    def __init__(self, given: Mapping[str, Any], two: bool, numbers: Mapping[Draws, Tensor], reentrant: bool) -> None:
        self._ids: Tensor | None = None if two else given.get("input_ids")
        self._embeds: Tensor | None = None if two else given.get("inputs_embeds")
        self._two, self._numbers, self._reentrant = two, numbers, reentrant
        self._positions: Tensor | None = given.get("position_ids")
        self.mask: Any = given.get("attention_mask")
        self.cache: Any = None if two else given.get("past_key_values")
        past = 0 if self.cache is None else self.cache.get_seq_length()
        # a static cache answers with the counter that its first layer advances in place
        self.offset: int | Tensor = past.clone() if isinstance(past, Tensor) else past
        self.taps: dict[Any, Any] = {}
        self.carried: dict[str, Any] = dict(getattr(self.cache, CARRIED, {}))
        if self.carried and not torch.compiler.is_compiling() and not bool(self.offset):
            self.carried = {}  # emptied, to be used again
        self.left: dict[str, Any] = {}
        self.began: int | None = None
        self.told: dict[object, object] = getattr(given.get("encoder_outputs"), CARRIED, None) or {}
        self.encoder_mask: Tensor | None = given.get("encoder_attention_mask")

    # ------------------------------------------------------------ tokens

    @property
    def ids(self) -> Tensor:
        """(batch, tokens). Raises `MissingContext` where the call had embeddings."""
        if self._ids is None:
            raise self._missing("ids of tokens")
        return self._ids

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, tokens) of this call."""
        found = self._tokens.shape
        return found[0], found[1]

    @property
    def has_tokens(self) -> bool:
        return self._ids is not None or self._embeds is not None

    @property
    def device(self) -> torch.device:
        return self._tokens.device

    @property
    def _tokens(self) -> Tensor:
        found: Tensor | None = self._embeds if self._ids is None else self._ids
        if found is None:
            raise self._missing("tokens")
        return found

    def _missing(self, what: str) -> MissingContext:
        why = (
            "a model with an encoder and a decoder has two sequences, and here it is neither's turn"
            if self._two
            else "the call gave none"
        )
        return MissingContext(
            f"this forward knows no {what}: {why}", hint="give them to the model, as its own arguments"
        )

    def within(self, given: Mapping[str, Any], two: bool) -> Context:
        """The context of a call inside of this one: this, where it is about the same tokens, or one of its own."""
        if self._continues(given):
            return self
        made = Context(given, two, self._numbers, self._reentrant)
        if made.cache is self.cache and not self._two:
            made.left = self.left
        if self._two:
            made.told = self.told
        return made

    def renewed(self) -> Context:
        """The same for another pass over the same tokens, which tells this one nothing."""
        made = copy.copy(self)
        made.taps, made.left = {}, {}
        return made

    def _continues(self, given: Mapping[str, Any]) -> bool:
        ids, embeds = given.get("input_ids"), given.get("inputs_embeds")
        if self._two or (self._ids is None and self._embeds is None):
            return False
        if ids is not None or embeds is None:
            return ids is not None and ids is self._ids
        return tuple(embeds.shape[:2]) == self.shape

    def real(self) -> Tensor:
        """(batch, tokens) of bool: which columns of this call are no padding."""
        return self.once("real", self._real)

    def _real(self) -> Tensor:
        (batch, length), mask = self.shape, self.mask
        if isinstance(mask, dict):  # by kind of layer; a token that is no padding sees itself in each
            mask = next((m for m in mask.values() if m is not None), None)
        if mask is None:
            return torch.ones(batch, length, dtype=torch.bool, device=self.device)
        if mask.ndim == 2:
            return cast(Tensor, mask[:, -length:].bool())
        if mask.ndim != 4:
            raise Unsupported(
                "the mask that padding is to be read off",
                verb="has",
                got=f"shape {tuple(mask.shape)}",
                want="(batch, tokens)",
            )
        at = (torch.arange(length, device=self.device) + self.offset).clamp(max=mask.shape[-1] - 1)
        seen = mask[:, 0].gather(2, at.expand(mask.shape[0], length)[..., None])[..., 0]
        return cast(Tensor, seen if seen.dtype == torch.bool else seen == 0).expand(batch, length)

    def prompted(self) -> Tensor:
        """(batch, tokens) of bool: which columns of this call were there when its text began to be continued.

        All of a call that nothing went before, none behind a filled cache. Raises `Unsupported` in a generation without
        a cache by a model that this one is a part of.
        """
        return self.once("prompted", self._prompted)

    def _prompted(self) -> Tensor:
        (batch, length), began = self.shape, self.began
        if began is None and self.cache is None:
            refuse_unknown()
        at = torch.arange(length, device=self.device) + self.offset
        first = at < (length if began is None else began)
        return (first & (torch.as_tensor(self.offset, device=self.device) == 0)).expand(batch, length)

    def positions(self) -> Tensor:
        """(batch, tokens): as given, or counted without padding where a mask says what that is."""
        return self.once("positions", self._counted)

    def _counted(self) -> Tensor:
        batch, length = self.shape
        if self._positions is not None:
            return self._positions.expand(batch, length)
        if isinstance(self.mask, Tensor) and self.mask.ndim == 2:
            return (self.mask.long().cumsum(1) - 1).clamp(min=0)[:, -length:]
        return (torch.arange(length, device=self.device) + self.offset).expand(batch, length)

    # ------------------------------------------------------------ what places of this forward tell each other

    def put(self, name: object, value: T) -> T:
        """What a place has put out, for others in this forward. The first stands: a recomputation makes it again."""
        if self._reentrant:
            raise Unsupported(
                f"what `{name}` puts out has no graph where blocks are checkpointed with `use_reentrant=True`",
                hint='say `activation_checkpointing_enable({"use_reentrant": False})`',
            )
        return cast(T, self.taps.setdefault(name, value))

    def tapped(self, name: object) -> Any:
        """What was `put`. Raises `MissingContext` if nothing was, in this forward."""
        if name not in self.taps:
            raise MissingContext(
                f"nothing has put out `{name}` in this forward: its place did not run before it is read",
                hint="read it at a layer that runs later",
            )
        return self.taps[name]

    def tell(self, name: object, value: object) -> None:
        """Let the decoder that reads this forward's output find `value`. The first stands."""
        self.told.setdefault(name, value)

    def handed(self, name: object) -> object:
        """What an encoder has `told`. Raises `MissingContext` where it ran without, or elsewhere."""
        if name not in self.told:
            raise MissingContext(
                f"the encoder has told nothing of `{name}`: it ran without the adapter, or its output was made anew",
                hint="give the model what the encoder is to read, or the very output of its encoder",
            )
        return self.told[name]

    def once(self, name: object, make: Callable[[], T]) -> T:
        """A value without gradients, made once a forward. A trace makes it each time: graphs join what is the same."""
        if torch.compiler.is_compiling():
            return make()
        if name not in self.taps:
            self.taps[name] = make()
        return cast(T, self.taps[name])

    def leave(self, name: str, value: object) -> None:
        """Let later forwards over this call's cache find `value` among what is `carried`."""
        self.left[name] = value

    def further(self, depth: int, alike: bool = False) -> Any:
        """A cache for what runs beside the model, in layers of its own behind the `depth` of this call's; None without.

        `alike`: of the sort that the model's layers are, windows and all. Raises `Unsupported` for one of fixed length,
        and for one that was filled without.
        """
        if self.cache is None:
            return None
        from transformers.cache_utils import DynamicLayer

        if getattr(self.cache, "is_compileable", False):
            raise Unsupported("a static cache has no room for what runs beside the model", hint="use a dynamic cache")
        own = copy.deepcopy if alike else lambda layer: DynamicLayer()
        return further(self.cache, depth, int(self.offset), own)

    # ------------------------------------------------------------ draws and strengths

    def draw(self, site: State, n: int, stream: int = 0) -> Tensor:
        """A whole number below n (int64, no dimensions, on this call's device), the same for this forward and site.

        `stream`: tells draws of one site apart. Raises `MissingContext` where it is not in training.
        """
        number = self._numbers.get(site.draws)
        if number is None:
            raise MissingContext(
                "nothing is drawn in a forward of what is not in training", hint="call `train()` of the model"
            )
        found = hashed(number, site.draws.seed, site.number, stream) % n
        x = self._ids if self._embeds is None else self._embeds
        return found if x is None else found.to(x.device)

    def said(self, site: State, name: str) -> object:
        """What the session of a site's adapter says of this forward (`Session.saying`), None where it doesn't."""
        return (find(site.draws.aside) or {}).get(name)

    def strengths(self, site: State) -> Tensor | None:
        """(batch,): how strong the site's adapter is for each row of the batch, where `Handle.rows` says so."""
        return cast("Tensor | None", find(site.draws))

    def weighed(self, site: State, weight: float, h: Tensor) -> float | Tensor:
        """What a change of `h` (batch, ...) is multiplied by. Raises `UsageError` for strengths of another batch."""
        rows = self.strengths(site)
        if rows is None:
            return weight
        if rows.shape != h.shape[:1]:
            raise UsageError(
                f"strengths are given for {tuple(rows.shape)} rows, and the batch has {len(h)}",
                hint="give each row one",
            )
        return weight * rows.to(h).view(-1, *(1 for _ in h.shape[1:]))
