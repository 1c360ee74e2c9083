"""Memory counted without a GPU: against formulas on small sizes."""

from typing import Any

import pytest

from benchmarks import memory

SIZES: dict[str, Any] = {**memory.LARGE, "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 2, "intermediate_size": 64}
TOKENS = 10 * memory.SENTENCE


@pytest.mark.parametrize("variant", memory.VARIANTS)
def test_weights_and_what_trains(variant: str) -> None:
    model, counts = memory.build(variant, SIZES), memory.count(variant, TOKENS, False, SIZES)
    every = sum(parameter.numel() for parameter in model.parameters())
    trained = (
        every
        if variant == "full"
        else sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    )
    assert counts["weights_bytes"] == 2 * every
    # bf16 gradient; float32 master, its gradient and two moments.
    assert counts["training_bytes"] == 18 * trained
    assert counts["total_bytes"] == sum(
        counts[name] for name in counts if name.endswith("_bytes") and "total" not in name
    )


def test_what_is_kept_grows_with_the_tokens_and_less_of_it_with_checkpointing() -> None:
    once, twice, again = (
        memory.count("stack", tokens, checkpointing, SIZES)["kept_bytes"]
        for tokens, checkpointing in ((TOKENS, False), (2 * TOKENS, False), (TOKENS, True))
    )
    assert twice == pytest.approx(2 * once, rel=1e-3)
    # One state of 32 bf16 values a token for each of three layers, ids and positions besides.
    assert 3 * TOKENS * 32 * 2 <= again <= 3 * TOKENS * 32 * 2 + 8 * TOKENS * 8
    assert again < once / 5
