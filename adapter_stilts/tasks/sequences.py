"""How long an input of the encoder is."""

# Pieces between <s> and </s>: XLM-R has 512 positions.
MAX_PIECES = 510
# Texts go to the tokenizer in portions, so that a large split never stands in memory twice.
PORTION = 2_000
