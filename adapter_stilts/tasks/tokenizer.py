"""What this package asks of a tokenizer, said without `transformers`, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tokenizers


class Tokenizer(Protocol):
    """A fast tokenizer of `transformers`, as far as it is used. Ids are those of its control pieces."""

    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    unk_token_id: int
    mask_token_id: int
    unk_token: str

    @property
    def all_special_ids(self) -> Sequence[int]: ...

    @property
    def all_special_tokens(self) -> Sequence[str]: ...

    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer: ...

    def __call__(self, *texts: Any, **options: Any) -> Any: ...

    # What is worked out of a tokenizer is remembered for it.
    def __hash__(self) -> int: ...

    def get_vocab(self) -> Mapping[str, int]: ...

    def convert_ids_to_tokens(self, ids: Any) -> Any: ...
