"""Prints the logits that transformers computes with a checkpoint for the ids on standard input, both as JSON."""

import json
import sys

import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).double().eval()
with torch.no_grad():
    logits = model(torch.tensor([json.load(sys.stdin)])).logits[0]
json.dump(logits.tolist(), sys.stdout)
