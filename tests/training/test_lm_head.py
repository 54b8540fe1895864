"""The head's one pass gives the log-probabilities, metrics and gradients of TRL's two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from training import lm_head
from training.lm_head import head_in_one_pass

if TYPE_CHECKING:
    from torch import Tensor

ALL = ("log_probs", "entropy", "mean_logits", "is_top1")


def scored(
    outputs: tuple[str, ...] = ALL,
    *,
    bias: Tensor | None = None,
    softcap: float | None = None,
    learns: bool = False,
    half: bool = False,
    scale: float = 0.5,
) -> tuple[list[Tensor | None], Tensor]:
    """Return what the head makes of 7 tokens over 50 words, in tiles of 16, and the gradient."""
    import torch
    from trl.trainer import utils

    torch.manual_seed(0)
    hidden = torch.randn(7, 24, requires_grad=True)
    weight = torch.randn(50, 24, requires_grad=learns)
    # The first target is the most likely word, and has a twin in a later tile.
    with torch.no_grad():
        best = int((hidden[0] @ weight.t()).argmax())
        weight[(best + 20) % 50] = weight[best]
    targets = torch.tensor([best, 3, 15, 16, 31, 48, 49])
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        fields = utils._ChunkedLogProbFunction.apply(
            hidden, weight, bias, targets, 0.7, 16, softcap, scale, outputs
        )
    (fields[0] * torch.linspace(1, 2, 7)).sum().backward()
    assert hidden.grad is not None
    return list(fields), hidden.grad


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that grows by one with every pass that is computed here."""
    made: list[object] = []
    plain = lm_head._scored

    def one(*args: Any, **options: Any) -> Any:
        made.append(args)
        return plain(*args, **options)

    monkeypatch.setattr(lm_head, "_scored", one)
    return made


@pytest.mark.parametrize("outputs", [ALL, ("log_probs",), ("log_probs", "entropy", "is_top1")])
@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_numbers_and_gradient_are_those_of_trl(
    passes: list[object], outputs: tuple[str, ...], scale: float
) -> None:
    import torch

    plain, gradient = scored(outputs, scale=scale)
    with head_in_one_pass(lambda: True):
        fields, same = scored(outputs, scale=scale)
    assert len(passes) == 1
    assert [one is None for one in fields] == [one is None for one in plain]
    for one, other in zip(fields, plain, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(same, gradient)


def test_half_precision_is_no_further_from_the_truth_than_trl(passes: list[object]) -> None:
    exact, true = scored()
    plain, usual = scored(half=True)
    with head_in_one_pass(lambda: True):
        fields, gradient = scored(half=True)
    assert len(passes) == 1

    def error(one: Any, other: Any) -> float:
        return float((one.detach().float() - other.detach()).square().mean().sqrt())

    for one, other, truth in zip(fields[:2], plain[:2], exact[:2], strict=True):
        assert error(one, truth) < 1.2 * error(other, truth)
    assert error(gradient, true) < 1.2 * error(usual, true)
    assert gradient.dtype == usual.dtype


def test_a_likely_word_in_the_last_tile_loses_nothing_of_the_first(passes: list[object]) -> None:
    import torch

    hidden = torch.ones(1, 4, requires_grad=True)
    weight = torch.linspace(-60, 60, 40)[:, None].expand(40, 4).contiguous()
    with head_in_one_pass(lambda: True):
        from trl.trainer import utils

        log_probs = utils._ChunkedLogProbFunction.apply(
            hidden, weight, None, torch.tensor([0]), 1.0, 8, None, 1.0, ("log_probs",)
        )[0]
    expected = (hidden @ weight.t()).log_softmax(-1)[:, 0]
    torch.testing.assert_close(log_probs, expected)
    assert len(passes) == 1


def test_what_is_more_than_one_gradient_is_left_to_trl(passes: list[object]) -> None:
    import torch

    with head_in_one_pass(lambda: True):
        scored(bias=torch.zeros(50))
        scored(softcap=30.0)
        scored(learns=True)
        scored((*ALL, "log_sum_sq_probs"))
    with head_in_one_pass(lambda: False):
        scored()
    scored()
    assert not passes
