from __future__ import annotations

import pytest

from hf_crosstask.encoding.layout import pair_layout, single_layout


def test_rows_are_what_the_tokenizer_itself_makes(tokenizer):
    first, second = "serum (3.5 mg)", "did it rise?"

    def plain(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    single, pair = single_layout(tokenizer), pair_layout(tokenizer)
    alone, together = tokenizer(first), tokenizer(first, second)
    assert single.input_ids(plain(first)) == alone["input_ids"]
    assert pair.input_ids(plain(first), plain(second)) == together["input_ids"]
    assert single.size == tokenizer.num_special_tokens_to_add(pair=False)
    assert pair.size == tokenizer.num_special_tokens_to_add(pair=True)
    if "token_type_ids" in tokenizer.model_input_names:
        assert single.token_type_ids(len(plain(first))) == alone["token_type_ids"]
        assert pair.token_type_ids(len(plain(first)), len(plain(second))) == together["token_type_ids"]
    else:
        assert single.type_ids is None
        assert pair.type_ids is None
        with pytest.raises(ValueError, match="token types"):
            single.token_type_ids(1)
