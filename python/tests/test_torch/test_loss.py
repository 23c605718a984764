"""The loss by chunks against that of all logits."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from lengthwise.torch import _loss


@pytest.mark.parametrize("chunk_tokens", [1, 4, 1024])
@pytest.mark.parametrize("num_labels", [0, 1, 4, 13])
@pytest.mark.parametrize("has_bias", [False, True])
def test_chunks_add_up(
    monkeypatch: pytest.MonkeyPatch, has_bias: bool, num_labels: int, chunk_tokens: int
) -> None:
    monkeypatch.setattr(_loss, "CHUNK_TOKENS", chunk_tokens)
    torch.manual_seed(num_labels)
    head = torch.nn.Linear(6, 11, bias=has_bias)
    targets = torch.full((17,), _loss.NO_LABEL)
    targets[torch.randperm(17)[:num_labels]] = torch.randint(11, (num_labels,))
    found = []
    for by_chunks in (True, False):
        hidden = torch.linspace(-1, 1, 17 * 6).view(17, 6).requires_grad_()
        if by_chunks:
            loss = _loss.summed_loss(hidden, head, targets)
        else:
            loss = torch.nn.functional.cross_entropy(head(hidden), targets, reduction="sum")
        loss.backward()
        found.append((loss.detach(), hidden.grad, *(each.grad for each in head.parameters())))
        head.zero_grad()
    torch.testing.assert_close(found[0], found[1])
    assert (found[0][0] == 0) == (num_labels == 0)


def test_the_head_is_itself_again_afterwards() -> None:
    head = torch.nn.Linear(6, 11)
    hidden = torch.randn(1, 3, 6)
    logits = head(hidden)
    computing = _loss.head_computes_loss(head, torch.tensor([1, 2, -100]))
    with computing as computed:
        assert head(hidden) is computed[0]
    assert torch.equal(head(hidden), logits)


def test_labels_move_to_the_token_before() -> None:
    assert _loss.shifted(torch.tensor([5, -100, 7])).tolist() == [-100, 7, -100]
    assert _loss.shifted(torch.tensor([5])).tolist() == [-100]
