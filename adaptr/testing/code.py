"""The laws of a method's code: torch.compile takes it whole, and importing it imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, ClassVar

import adaptr
from adaptr.adapter import Adapter
from adaptr.testing.closeness import assert_close
from adaptr.testing.skipping import skip

if TYPE_CHECKING:
    from torch import Tensor, nn


class CodeLaws:
    """What `Laws` has of code. What they are tried on is said by `ModelLaws`."""

    method: ClassVar[str]
    #: Whether the method compiles without a graph break.
    compiles: ClassVar[bool] = True

    if TYPE_CHECKING:

        def model(self) -> nn.Module: ...
        def adapter(self, model: nn.Module, seed: int = 1) -> Adapter: ...
        def output(self, model: nn.Module) -> Tensor: ...

    def compilable(self) -> nn.Module:
        """What is compiled: tracing takes time by the layer, and one of each sort shows all."""
        return self.model()

    def test_law_9_compiles_without_a_break(self) -> None:
        import torch

        if not self.compiles:
            skip(f"`{self.method}` is not compiled here (`compiles`)")
        model = self.compilable()
        with adaptr.attach(model, self.adapter(model)):
            plain = self.output(model)
            torch._dynamo.reset()
            compiled = self.output(torch.compile(model, backend="eager", fullgraph=True))  # type: ignore[arg-type]
        assert_close(compiled, plain)

    def test_law_11_importing_it_does_not_import_torch(self) -> None:
        code = (
            "import sys; from adaptr import plugins; m = plugins.method(sys.argv[1]); m.config({}); "
            "print([n for n in ('torch', 'numpy', 'transformers') if n in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code, self.method], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
