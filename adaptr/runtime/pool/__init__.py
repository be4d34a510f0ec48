"""Many adapters in one batch: `pool(model)`, each row of a batch names its own.

S-LoRA (Sheng et al. 2023, arXiv:2311.03285) and Punica (Chen et al. 2023, arXiv:2310.18547) did it for LoRA; here it
is whatever can be said as y = g ∘ base(u ∘ x) + B A x + c (`adaptr.Row`). Adapters are files, looked at when added and
read when a row names them; a bounded set is on the device, in pages that factors of any rank share. What the layers
need for a batch is gathered once for a composition, and costs two batched products for each group of like ranks.
"""

from adaptr.runtime.pool.live import Pool, pool
from adaptr.runtime.pool.request import Answer, Request

__all__ = ["Answer", "Pool", "Request", "pool"]
