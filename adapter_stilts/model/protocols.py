"""What this package asks of a model of `adapters`, which has no types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self

from torch import Tensor, nn

if TYPE_CHECKING:
    from adapter_stilts.model.packing import Borders
    from adapter_stilts.model.peft_adapters import PeftHolder


class Model(Protocol):
    """`XLMRobertaAdapterModel` of `adapters`, as far as it is used: an encoder with adapters and heads by name.

    `roberta` is the encoder, `heads` the heads, `config` the encoder's configuration, `adapters_config` which adapters
    there are, `active_head` the head that a plain forward uses. This package adds `packing` (by `packing.install`) and,
    for as long as there are adapters of `peft`, `peft`.
    """

    roberta: Any
    config: Any
    adapters_config: Any
    active_head: Any
    packing: Borders
    peft: PeftHolder
    training: bool

    @property
    def heads(self) -> Any: ...

    def __call__(self, *inputs: Any, **options: Any) -> Any: ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]: ...

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def state_dict(self) -> Mapping[str, Tensor]: ...

    def train(self, mode: bool = True) -> Self: ...

    def eval(self) -> Self: ...

    def to(self, *target: Any, **options: Any) -> Self: ...

    def add_adapter(self, adapter_name: str, config: Any = None, **options: Any) -> None: ...

    def add_adapter_fusion(self, adapter_names: Any, config: Any = None, **options: Any) -> None: ...

    def average_adapter(self, adapter_name: str, adapter_list: Any, **options: Any) -> None: ...

    def delete_adapter(self, adapter_name: str) -> None: ...

    def set_active_adapters(self, adapter_setup: Any) -> None: ...

    def add_tagging_head(self, head_name: str, **options: Any) -> None: ...

    def add_classification_head(self, head_name: str, **options: Any) -> None: ...

    def add_multiple_choice_head(self, head_name: str, **options: Any) -> None: ...

    def save_head(self, save_directory: str, head_name: str, use_safetensors: bool = False) -> None: ...

    def save_adapter_setup(self, save_directory: str, adapter_setup: Any, **options: Any) -> None: ...
