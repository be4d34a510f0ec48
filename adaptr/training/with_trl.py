"""TRL's trainers with a session in between: language modelling and preferences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import Trainer
from trl import DPOTrainer, SFTTrainer

from adaptr.errors import Unsupported
from adaptr.training import private
from adaptr.training.lifecycle import Lifecycle

if TYPE_CHECKING:
    from datasets import Dataset


class Causal(Lifecycle, SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """Language modelling.

    TRL's fused head reads the weight of the head itself, past an adapter on that layer, and gives no logits, which a
    method's own objective asks for; and on a CPU it costs more than it saves. There the loss is transformers' own.
    """

    def _forward(self, model: Any, inputs: Any, items: Any) -> tuple[Any, Any]:
        whole = {**inputs, "use_cache": False}
        if self._fused():
            return SFTTrainer.compute_loss(self, model, whole, False, items), None
        found: tuple[Any, Any] = Trainer.compute_loss(self, model, whole, True, items)
        return found

    def _fused(self) -> bool:
        head = self.model.get_output_embeddings()
        adapted = any(host is head for host in self.session.hosts.values())
        plain = self.label_smoother is None and not self.session.method.supplies("objective")
        return plain and not adapted and self.args.device.type != "cpu"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Past the means that TRL keeps of its own head."""
        self._metrics["train"].clear()
        super().log(logs, start_time)


class Preferring(Lifecycle, DPOTrainer):  # type: ignore[misc]
    """Chosen answers before rejected ones.

    The reference is the bare base: what it says of all the data is computed in the constructor, before the adapter is
    there. TRL's fused head reads the weight of the head itself, so an adapter there would not learn: it is refused.
    """

    def __init__(self, model: Any, attach: Any, **given: Any) -> None:
        with private.without_a_word():
            super().__init__(model, attach, **given)
        head = self.model.get_output_embeddings()
        if any(host is head for host in self.session.hosts.values()):
            raise Unsupported(
                "preferences are learned past an adapter on the head, which would stay as it is",
                hint="leave the head out of `targets`",
            )

    def _prepare_dataset(self, dataset: Dataset, *given: object) -> Dataset:
        """Ids already (`tasks.builtin.preference`): TRL would drop what is cut, and learn an answer in another context
        where its tokens merge with the prompt's.
        """
        return dataset

    def _forward(self, model: Any, inputs: Any, items: Any) -> tuple[Any, Any]:
        return DPOTrainer.compute_loss(self, model, dict(inputs), False, items), None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Past the means that TRL keeps."""
        self._metrics["train"].clear()
        super().log(logs, start_time)
