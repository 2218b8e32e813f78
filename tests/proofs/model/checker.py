"""Breadth-first search over all states of a configuration, and the shortest way to the first one that is wrong.

Of a state that was seen only its 64-bit hash is kept (hash compaction, as in Murphi and SPIN). Two states that share
a hash would be taken for one, and what follows from the second only would be missed. Among n states that is expected
n²/2⁶⁵ times: 0.0000003 times among 3 million, the most that a configuration has, if Python's hash of a tuple is as good
as random; a test compares it with whole states where they are few.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.proofs.model.invariants import broken, stuck
from tests.proofs.model.protocol import successors
from tests.proofs.model.rules import Configuration, Rules
from tests.proofs.model.states import Label, State
from tests.proofs.model.words import tell


@dataclass
class Result:
    """What a search has found.

    Attributes:
        states: distinct states that were reached. depth: steps to the farthest of them.
        complete: whether these are all.
        steps: templates of the steps that were taken.
        invariant: the one that doesn't hold, "" if all do. trace: the steps to where it doesn't, in words.
    """

    states: int = 0
    depth: int = 0
    complete: bool = True
    steps: set[str] = field(default_factory=set)
    invariant: str = ""
    trace: list[str] = field(default_factory=list)


def explore(
    configuration: Configuration, drops: frozenset[str] = frozenset(), *, ignored: str = "", most: int = 1 << 62
) -> Result:
    """Searches until an invariant doesn't hold, every state is seen, or `most` of them are."""
    rules = Rules.of(configuration, drops)
    with _no_garbage_collection():
        result = _search(rules, ignored, most)
    if result.invariant:
        result.trace = _shortest(rules, ignored, result)
    return result


def _search(rules: Rules, ignored: str, most: int) -> Result:
    first = rules.first_state()
    seen, level, result = {hash(first)}, [first], Result()
    see, happen = seen.add, result.steps.add
    # Gets go on for ever, and without flushers nothing is ever saved.
    ends = rules.configuration.flushers and not rules.configuration.readers
    try:
        while level:
            following: list[State] = []
            for state in level:
                steps = successors(state, rules)
                if not steps and ends and (wrong := stuck(state)):
                    result.invariant = wrong
                    return result
                for label, after in steps:
                    happen(label[0])
                    key = hash(after)
                    if key in seen:
                        continue
                    see(key)
                    following.append(after)
                    if wrong := broken(after, ignored):
                        result.invariant = wrong
                        return result
                if len(seen) >= most:
                    result.complete = False
                    return result
            result.depth += bool(following)
            level = following
        return result
    finally:
        result.states = len(seen)


def _shortest(rules: Rules, ignored: str, found: Result) -> list[str]:
    """The same search again, which remembers where each state came from."""
    first = rules.first_state()
    came: dict[State, tuple[State, Label] | None] = {first: None}
    level = [first]
    while level:
        following: list[State] = []
        for state in level:
            steps = successors(state, rules)
            if not steps and found.invariant == "stuck" and stuck(state):
                return _way(came, state)
            for label, after in steps:
                if after in came:
                    continue
                came[after] = (state, label)
                following.append(after)
                if broken(after, ignored):
                    return _way(came, after)
        level = following
    raise AssertionError("the second search hasn't found what the first one has")


def _way(came: dict[State, tuple[State, Label] | None], state: State) -> list[str]:
    way: list[str] = []
    step = came[state]
    while step is not None:
        before, label = step
        way.append(tell(label))
        step = came[before]
    return way[::-1]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """States hold no cycles, and looking for some among millions of tuples takes most of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
