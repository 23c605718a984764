"""A tiny LLaMA with random weights, as from_pretrained reads it, and documents for it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

WORDS = [f"word{number}" for number in range(56)]

#: What a user says, and what is answered.
TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] }} : {{ message['content'] }} </s> "
    "{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


def save_model(directory: Path) -> Path:
    """Write the model and a tokenizer that knows some words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = ["<unk>", "</s>", ":", "user", "assistant", *WORDS]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", chat_template=TEMPLATE
    )
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=48,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


def texts(number: int, seed: int = 0) -> list[str]:
    """Texts that count by steps of their own, of which few are long."""
    drawn = random.Random(seed)
    made: list[str] = []
    for _ in range(number):
        start, step = drawn.randrange(len(WORDS)), drawn.choice([1, 2, 3])
        length = min(200, int(5 * drawn.paretovariate(0.9)))
        made.append(" ".join(WORDS[(start + step * at) % len(WORDS)] for at in range(length)))
    return made


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
