"""Writes conversations as transformers renders them: one JSON object a line, with the template and what came of it.

Templates are those that trl brings, and some of the kinds that models have.
"""

import json
import logging
import sys
from pathlib import Path

import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
# Whitespace that blocks leave or take, loop controls, and JSON with options.
LAYOUT = """{#- A comment. -#}
{%- set ns = namespace(n=0) %}
{% for message in messages %}
    {% if message.role == 'tool' %}
        {% continue %}
    {% endif %}
    {% set ns.n = ns.n + 1 %}
  {{ ns.n }} {{ message.role | upper }}: {{ message | tojson(indent=2, sort_keys=true) }}
    {% if message.role == 'assistant' %}
        {% generation %}
            {{- message.content | default('', true) | string | trim }}{{ eos_token }}
        {% endgeneration %}

    {% endif %}
{% endfor %}
{{ [1.0, 1e-7, true, none, 'x', {'k': ('a', 2)}] | tojson(separators=(',', ':')) }} {{ true }} {{ none }} {{ missing }}
{{ 'a,b'.split(',') | join(' ') }}{{ ' x '.strip() }}{{ messages[::-1][0].role.title() }}{{ dict(a=1).items() | list | length }}
"""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The <weather> & 'wind' of a place, in °C",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 1.5}},
                "required": ["place"],
            },
        },
    }
]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Köln", "days": 2, "exact": True}}}

CHATS = [
    ([("user", "Hello?"), ("assistant", "Hi.")], None),
    (
        [("system", "Be brief."), ("user", "1+1"), ("assistant", "2"), ("user", "2+2"), ("assistant", "4")],
        None,
    ),
    ([("user", "  <b>\"ünïcode\" & 日本 😀</b>\n"), ("assistant", "\n  it's <ok> \t\n")], None),
    ([("user", "one"), ("user", "two"), ("assistant", "three"), ("assistant", "four")], None),
    ([("assistant", "first"), ("user", "second")], None),
    ([("user", "Think."), ("assistant", "<think>\nhm\n</think>\n\nDone.")], None),
    ([{"role": "user", "content": "a"}, {"role": "assistant", "reasoning": "since", "content": "b", "name": None}], None),
    ([{"role": "user", "content": [{"type": "text", "text": "part"}]}, ("assistant", "ok")], None),
    ([("user", "Rain?"), ("assistant", "No.")], TOOLS),
    (
        [
            ("user", "Rain?"),
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "name": "weather", "content": '{"rain": false}'},
            ("assistant", "No rain."),
        ],
        TOOLS,
    ),
]

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def byte_tokenizer():
    """Each byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def main():
    """Prints all cases."""
    logging.disable(logging.WARNING)
    tokenizer = byte_tokenizer()
    templates = {"smollm": SMOLLM, "mistral": MISTRAL, "layout": LAYOUT}
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        templates[path.stem] = path.read_text(encoding="utf-8")
    for name, template in templates.items():
        for number, (chat, tools) in enumerate(CHATS):
            messages = [m if isinstance(m, dict) else {"role": m[0], "content": m[1]} for m in chat]
            case = {"name": f"{name} {number}", "template": template, "tokens": TOKENS}
            case |= {"messages": messages, "tools": tools, "text": None, "mask": None}
            options = {"tools": tools, "chat_template": template, **TOKENS}
            try:
                case["text"] = tokenizer.apply_chat_template(messages, tokenize=False, **options)
                if "generation" in template and "endgeneration" in template:
                    encoded = tokenizer.apply_chat_template(
                        messages, return_dict=True, return_assistant_tokens_mask=True, **options
                    )
                    case["mask"] = list(encoded["assistant_masks"])
            except Exception as error:  # noqa: BLE001 What a template raises is anything.
                case["error"] = str(error)
            sys.stdout.write(json.dumps(case) + "\n")


main()
