"""What a row is guessed to get next: what followed the same tokens the last time."""

from __future__ import annotations

from workbench.inference.engines.drafts import Drafts


def test_what_followed_the_same_tokens_last_is_guessed() -> None:
    drafts = Drafts([1, 2, 3, 7, 1, 2, 3, 8, 9, 1, 2, 3])
    assert drafts.guess(5) == [8, 9]  # the later one, two tokens at first
    assert drafts.guess(1) == [8]
    assert list(drafts.guess(0)) == []
    drafts.add([4])
    assert list(drafts.guess(5)) == []  # 2, 3, 4 were never there before


def test_four_tokens_say_more_than_three() -> None:
    assert Drafts([5, 1, 2, 3, 7, 6, 1, 2, 3, 8, 5, 1, 2, 3]).guess(1) == [7]


def test_guesses_grow_while_they_are_right() -> None:
    drafts = Drafts(list(range(40)) * 2 + [0, 1, 2])
    lengths = []
    for right in (2, 4, 8, 16, 3, 0):
        guess = drafts.guess(99)
        lengths.append(len(guess))
        drafts.judge(len(guess), right)
    assert lengths == [2, 4, 8, 16, 16, 3]
    assert len(drafts.guess(99)) == 1
    drafts.judge(0, 0)  # where nothing was guessed, nothing was wrong
    assert len(drafts.guess(99)) == 1


def test_a_short_beginning_has_no_guess() -> None:
    drafts = Drafts([])
    for token in (1, 1, 1):
        assert list(drafts.guess(4)) == []
        drafts.add([token])
    drafts.add([1])
    assert drafts.guess(4) == [1]
