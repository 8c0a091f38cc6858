"""Simulated classroom dialogues with a known latent quality: real enough to rate, free to share.

Two latent traits of a lesson, correlated 0.6, decide what teacher and students say in each exchange:
*reasoning* (questions that press for reasons, answers that give them, feedback that builds on them)
and *focus* (time on the mathematics rather than on disruptions and housekeeping). Every exchange
draws its moves at random with chances that follow the trait, from many wordings and problems, so
that the mix of moves, never one phrase, tells the quality. The scores are the traits on each
rubric's scale, with rater noise.

Reasons take more words than none: words a line follow reasoning (benchmarks/lesson_lengths.py). So a
rater that ranks these lessons well need not have understood them; real documents show that.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping

from debiasdpo.config.data import TRAITS, Rubric, SimulatedConfig
from debiasdpo.documents.base import Corpus, Document, Stream

_TRAIT_CORRELATION = 0.6

_TEACHER_SHARE = 0.5  # of a trait's variance lies between teachers, the rest between lessons


def read(config: SimulatedConfig, seed: int) -> Corpus:
    """Write the corpus: `teachers * lessons_per_teacher` documents, the same for the same seed."""
    return Corpus(Stream(lambda: _lessons(config, seed)), dict(config.rubrics))


def _lessons(config: SimulatedConfig, seed: int) -> Iterator[Document]:
    for teacher in range(config.teachers):
        rng = random.Random(f"{seed}/teacher/{teacher}")
        teacher_traits = _correlated(rng)
        for lesson in range(config.lessons_per_teacher):
            own = _correlated(rng)
            traits = {
                name: math.sqrt(_TEACHER_SHARE) * teacher_traits[name]
                + math.sqrt(1 - _TEACHER_SHARE) * own[name]
                for name in TRAITS
            }
            yield Document(
                id=f"lesson-{teacher:03d}-{lesson}",
                group=f"teacher-{teacher:03d}",
                text=_dialogue(rng, traits, config.words),
                scores={
                    name: _score(rng, traits[name], rubric, config.rater_noise)
                    for name, rubric in sorted(config.rubrics.items())
                },
            )


def _correlated(rng: random.Random) -> dict[str, float]:
    reasoning = rng.gauss(0, 1)
    focus = _TRAIT_CORRELATION * reasoning + math.sqrt(1 - _TRAIT_CORRELATION**2) * rng.gauss(0, 1)
    return {"reasoning": reasoning, "focus": focus}


def _score(rng: random.Random, trait: float, rubric: Rubric, noise: float) -> float:
    """Trait (standard normal) -> expert score: mid-scale plus 1.7 points of 7 a standard deviation."""
    width = (rubric.high - rubric.low) / 6
    direction = 1 if rubric.high_is_good else -1
    middle = (rubric.low + rubric.high) / 2
    raw = middle + width * (1.7 * direction * trait + rng.gauss(0, noise))
    return rubric.scale.nearest(min(rubric.high, max(rubric.low, raw)))


def _chance(rng: random.Random, trait: float) -> bool:
    """True more often the higher the trait: logistic, 5 % at -1 and 95 % at +1."""
    return rng.random() < 1 / (1 + math.exp(-3 * trait))


def _dialogue(rng: random.Random, traits: Mapping[str, float], words: int) -> str:
    """As many exchanges as reach `words`, so that all lessons are about as long."""
    lines = [f"Teacher: {rng.choice(_OPENINGS)}"]
    while sum(len(line.split()) for line in lines) < words:
        if not _chance(rng, traits["focus"] + 0.6):
            lines += _disruption(rng)
        elif rng.random() < 0.2 and _chance(rng, traits["focus"]):
            lines.append(f"Student: {rng.choice(_ENGAGED)}")
        lines += _exchange(rng, traits["reasoning"])
    return "\n".join(lines)


def _exchange(rng: random.Random, reasoning: float) -> list[str]:
    problem, answer, reason, wrong = rng.choice(_PROBLEMS)(rng)
    lines = []
    if _chance(rng, reasoning):
        lines.append(f"Teacher: {problem} {rng.choice(_PRESS)}")
        lines.append(f"Student: {rng.choice(_REASONED).format(answer=answer, reason=reason)}")
    else:
        lines.append(f"Teacher: {problem} {rng.choice(_RECALL)}")
        lines.append(
            f"Student: {rng.choice(_BARE).format(answer=rng.choice([answer, answer, wrong]))}"
        )
    if _chance(rng, reasoning):
        lines.append(f"Teacher: {rng.choice(_UPTAKE).format(answer=answer)}")
        if _chance(rng, reasoning):
            lines.append(f"Student: {rng.choice(_BUILD).format(answer=answer, reason=reason)}")
    else:
        lines.append(f"Teacher: {rng.choice(_CLOSE).format(answer=answer)}")
    if rng.random() < 0.4:
        echo = _INSIGHT if _chance(rng, reasoning) else _CONFUSED
        lines.append(f"Student: {rng.choice(echo)}")
    return lines


def _disruption(rng: random.Random) -> list[str]:
    lines = [f"Student: {rng.choice(_OFF_TASK)}"]
    if rng.random() < 0.7:
        lines.append(f"Teacher: {rng.choice(_HOUSEKEEPING)}")
    return lines


# A problem: (what is asked, the answer, why it is right, a wrong answer).
Problem = tuple[str, str, str, str]


def _fractions(rng: random.Random) -> Problem:
    low, high = sorted(rng.sample(range(3, 11), 2))
    return (
        f"Look at one {_PARTS[low]} and one {_PARTS[high]}, which is larger?",
        f"one {_PARTS[low]}",
        f"the whole is cut into only {low} pieces so each piece is bigger",
        f"one {_PARTS[high]}",
    )


def _area(rng: random.Random) -> Problem:
    width, height = rng.randint(3, 9), rng.randint(3, 9)
    return (
        f"A garden is {width} meters by {height} meters, what is its area?",
        f"{width * height} square meters",
        f"there are {height} rows with {width} squares in each row",
        f"{2 * (width + height)}",
    )


def _sharing(rng: random.Random) -> Problem:
    children, each = rng.randint(3, 8), rng.randint(4, 12)
    return (
        f"We have {children * each} marbles for {children} children, how many does each one get?",
        f"{each}",
        f"{children} groups of {each} make {children * each} again",
        f"{each + rng.choice([1, 2])}",
    )


def _pattern(rng: random.Random) -> Problem:
    start, step = rng.randint(2, 9), rng.randint(3, 8)
    terms = ", ".join(str(start + step * i) for i in range(4))
    return (
        f"The pattern goes {terms}, what comes next?",
        f"{start + 4 * step}",
        f"it always grows by {step}",
        f"{start + 4 * step + 1}",
    )


def _place_value(rng: random.Random) -> Problem:
    tens, ones = rng.randint(2, 8), rng.randint(2, 9)
    return (
        f"What is {tens * 10 + ones} plus {40 + ones}?",
        f"{tens * 10 + ones + 40 + ones}",
        f"I put the tens together first and then added {ones} and {ones}",
        f"{tens * 10 + 40 + ones}",
    )


def _perimeter(rng: random.Random) -> Problem:
    side = rng.randint(4, 12)
    return (
        f"This square has sides of {side} centimeters, how far is it around?",
        f"{4 * side}",
        f"all four sides are the same so it is {side} four times",
        f"{side * side}",
    )


_PROBLEMS: tuple[Callable[[random.Random], Problem], ...] = (
    _fractions, _area, _sharing, _pattern, _place_value, _perimeter,
)  # fmt: skip

_PARTS = {3: "third", 4: "fourth", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth", 9: "ninth",
          10: "tenth"}  # fmt: skip

_OPENINGS = (
    "Good morning, let's pick up where we stopped.", "Okay everyone, pencils out.",
    "Let's look at the board together.", "All right, today we go on with our unit.",
    "Take out your notebooks, please.", "We have a new set of problems today.",
)  # fmt: skip

_PRESS = (
    "How do you know?", "Can you explain why that has to be true?", "Convince us.",
    "What makes you think so?", "Show us how you thought about it.", "Would that always work?",
    "Talk to your partner, then tell us your reasons.", "How could we prove it?",
)  # fmt: skip

_RECALL = (
    "Just the number.", "Quickly.", "Anyone?", "Fill it in on line three.",
    "You should remember this.", "Write it down.", "Next person.", "What is the answer?",
)  # fmt: skip

_REASONED = (
    "It's {answer}, because {reason}.", "I drew it, and {reason}, so I got {answer}.",
    "I think {answer}. My reason is that {reason}.", "Since {reason}, it must be {answer}.",
    "First I wasn't sure, but {reason}. So {answer}.",
)  # fmt: skip

_BARE = (
    "{answer}.", "Um, {answer}?", "Is it {answer}?", "I got {answer}.", "{answer}, I guess.",
    "I don't know.", "I just copied {answer}.",
)  # fmt: skip

_UPTAKE = (
    "So you are saying it is {answer}. Who can put that idea in their own words?",
    "Interesting. Does anybody see a connection to what we heard before?",
    "Let's stay with that thought. What if the numbers were different?",
    "I like how you explained each step. Who would like to add to it?",
    "Does everyone agree? Tell us where you see it in the picture.",
    "That is a strategy we can use again. Why does it work?",
)  # fmt: skip

_BUILD = (
    "I agree, and I can show it another way: {reason}.", "I want to add that {reason}.",
    "At first I disagreed, but now I see that {reason}.",
    "It's like the last one, you can check that it is {answer}.",
    "If we change the numbers it still works, because {reason}.",
)  # fmt: skip

_INSIGHT = (
    "Oh, now I get why it works!", "That makes sense to me now.", "Wow, I never saw it like that.",
    "Now I could explain it to somebody.", "So that's the reason!", "I love this one.",
)  # fmt: skip

_CONFUSED = (
    "I still don't get it.", "I'm lost.", "Why are we doing this?", "I give up.",
    "This makes no sense.", "I have no idea what that means.",
)  # fmt: skip

_CLOSE = (
    "Okay. Next.", "Right.", "No, it's {answer}. Moving on.", "Good.", "It's {answer}, write that.",
    "We don't have time for that now.", "Correct. Number two.", "Just follow the steps.",
)  # fmt: skip

_OFF_TASK = (
    "He took my eraser!", "Can I go to the bathroom?", "When is lunch?", "I can't find my page.",
    "She keeps kicking my chair.", "Is it recess yet?", "I wasn't listening.", "This is boring.",
    "Did you see the game last night?",
)  # fmt: skip

_HOUSEKEEPING = (
    "Sit down, please. I've asked you twice.", "Stop talking, all of you.", "We'll wait.",
    "Who still has no worksheet? Hold on, let me find the copies.", "Put that away right now.",
    "I have to fill in the attendance first.", "That's enough noise.",
)  # fmt: skip

_ENGAGED = (
    "Can we try a harder one?", "I found a second way to do it.", "I have a question about the last step.",
    "My group already checked it with the blocks.",
)  # fmt: skip
