"""Asks of a numbering pattern: given these first digits and so many unknown ones, is the match already settled?

A pattern of the numbering data is a regular expression over digits without loops: literals, `\\d`, sets, groups, `|`,
`?`, `{n}`, `{n,m}`. It becomes an automaton whose states are made when first reached; every answer is remembered.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final, NamedTuple

DIGITS: Final = "0123456789"
_ANY: Final = frozenset(DIGITS)


class Verdict(Enum):
    """Of the numbers that begin with the known digits and have the given size, how many match."""

    NONE = 0
    ALL = 1
    SOME = 2


class PatternUnknown(ValueError):
    """A pattern that uses more than the grammar above."""


class _Node(NamedTuple):
    """`digits`: one of them. Else one of `choices`, each a sequence; the whole `least` to `most` times."""

    digits: frozenset[str]
    choices: tuple[tuple[_Node, ...], ...]
    least: int = 1
    most: int = 1


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0

    def parse(self) -> _Node:
        node = self._choices()
        if self._at != len(self._text):
            raise PatternUnknown(self._text)
        return node

    def _next(self, token: str) -> bool:
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _choices(self) -> _Node:
        choices = [self._sequence()]
        while self._next("|"):
            choices.append(self._sequence())
        return _Node(frozenset(), tuple(choices))

    def _sequence(self) -> tuple[_Node, ...]:
        nodes = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            nodes.append(self._repeated(self._atom()))
        return tuple(nodes)

    def _atom(self) -> _Node:
        if self._next("\\d"):
            return _Node(_ANY, ())
        if self._next("["):
            return _Node(self._set(), ())
        if self._next("(?:") or self._next("("):
            node = self._choices()
            if not self._next(")"):
                raise PatternUnknown(self._text)
            return node
        digit = self._text[self._at]
        self._at += 1
        if digit not in _ANY:
            raise PatternUnknown(self._text)
        return _Node(frozenset(digit), ())

    def _set(self) -> frozenset[str]:
        end = self._text.find("]", self._at)
        body, digits = self._text[self._at : end], set[str]()
        self._at = end + 1
        while body:
            first, last = body[0], body[2] if body[1:2] == "-" else body[0]
            if first not in _ANY or last not in _ANY:
                raise PatternUnknown(self._text)
            digits.update(DIGITS[int(first) : int(last) + 1])
            body = body[3 if body[1:2] == "-" else 1 :]
        return frozenset(digits)

    def _repeated(self, node: _Node) -> _Node:
        if self._next("?"):
            return _Node(frozenset(), ((node,),), 0, 1)
        if not self._next("{"):
            return node
        end = self._text.find("}", self._at)
        least, _, most = self._text[self._at : end].partition(",")
        if not least.isdigit() or not (most or least).isdigit():
            raise PatternUnknown(self._text)
        self._at = end + 1
        return _Node(frozenset(), ((node,),), int(least), int(most or least))


class DigitPattern:
    """The automaton of one pattern. A state is a small integer; `start` is the one before any digit."""

    start: ClassVar = 0

    def __init__(self, pattern: str) -> None:
        """PatternUnknown when the pattern is beyond the grammar."""
        self._edges: list[list[tuple[frozenset[str], int]]] = [[]]
        self._skips: list[list[int]] = [[]]
        self._accept = self._build(_Parser(pattern).parse(), 0)
        self._places: list[frozenset[int]] = []
        self._states: dict[frozenset[int], int] = {}
        self._steps: dict[tuple[int, str], int] = {}
        self._verdicts: dict[tuple[int, int], Verdict] = {}
        self._state(frozenset(self._closed({0})))

    def step(self, state: int, digit: str) -> int:
        """The state after one more digit."""
        key = (state, digit)
        following = self._steps.get(key)
        if following is None:
            places = {to for place in self._places[state] for digits, to in self._edges[place] if digit in digits}
            following = self._steps[key] = self._state(frozenset(self._closed(places)))
        return following

    def verdict(self, state: int, unknown_count: int) -> Verdict:
        """Whether exactly `unknown_count` further digits complete a match: never, always, or depending on them."""
        key = (state, unknown_count)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = self._decide(state, unknown_count)
        return verdict

    def is_dead(self, state: int) -> bool:
        """Whether nothing can match any more."""
        return not self._places[state]

    def _decide(self, state: int, unknown_count: int) -> Verdict:
        if not self._places[state]:
            return Verdict.NONE
        if unknown_count == 0:
            return Verdict.ALL if self._accept in self._places[state] else Verdict.NONE
        after = {self.verdict(self.step(state, digit), unknown_count - 1) for digit in DIGITS}
        return after.pop() if len(after) == 1 else Verdict.SOME

    def _state(self, places: frozenset[int]) -> int:
        state = self._states.setdefault(places, len(self._places))
        if state == len(self._places):
            self._places.append(places)
        return state

    def _closed(self, places: set[int]) -> set[int]:
        waiting = list(places)
        while waiting:
            for place in self._skips[waiting.pop()]:
                if place not in places:
                    places.add(place)
                    waiting.append(place)
        return places

    def _place(self) -> int:
        self._edges.append([])
        self._skips.append([])
        return len(self._edges) - 1

    def _build(self, node: _Node, begin: int) -> int:
        """The place reached after `node` from `begin`. Repetitions are written out: there are no loops."""
        end = self._place()
        for count in range(node.most + 1):
            if count >= node.least:
                self._skips[begin].append(end)
            if count == node.most:
                break
            following = self._place()
            if node.digits:
                self._edges[begin].append((node.digits, following))
            for choice in node.choices:
                place = begin
                for part in choice:
                    place = self._build(part, place)
                self._skips[place].append(following)
            begin = following
        return end
