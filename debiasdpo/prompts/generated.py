"""Train statements that a grammar generates (`context.generated`), beside those that are written.

They make the contexts that are trained on diverse: who is spoken of, where the remark comes from, how sure
it is, how long, in which order, with one claim, several, or two that cancel. Test wordings and categories
that are not trained on stay unseen: a statement that comes near to them by its content words is drawn again
(`content_words.Apart`).
"""

import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from debiasdpo.config.context import POLARITIES, ContextConfig
from debiasdpo.config.grammar import CLAIM, OPPOSITE, OTHER, WHO
from debiasdpo.config.sameness import same_text
from debiasdpo.errors import UserError
from debiasdpo.prompts.content_words import Apart, common_words, content_words, said
from debiasdpo.prompts.contexts import Statement, statements
from debiasdpo.prompts.grammar import expand, sentences

Texts = Mapping[str, tuple[str, ...]]  # alternatives of each rule

CANCELLING = "contradictory"  # the rule of statements whose claims cancel
EACH = 4  # statements of each side for one of them
_SEVERAL = 0.25  # of the statements of a side hold two claims
_PATIENCE = 1000  # draws in a row that give nothing new, after which a grammar has no more to give


class _Side(NamedTuple):
    category: str
    name: str  # flattering, unflattering or neutral


def train_statements(
    config: ContextConfig, categories: Collection[str], seed: int
) -> tuple[Statement, ...]:
    """All statements that categories are trained on with: those written in `train` lists and, with
    `context.generated=N`, N for each side of each category that has a grammar, and N/4 of polarity 0 whose
    claims cancel.

    The same for one seed and one configuration; no text comes twice. Raises `UserError` where a grammar has
    too few statements that are apart from what must stay unseen: test wordings, and all other categories.
    """
    written = statements(config, categories, "train")
    if not config.generated:
        return written
    return (*written, *_Generator(config, seed, written).statements())


def apart_from(config: ContextConfig, trained: Collection[str]) -> Apart:
    """What generated statements must be apart from. What the written ones that are trained on say is not
    unseen."""
    unseen = [name for name in config.categories if name not in trained]
    texts = {
        name: [s.text for w in ("train", "test") for s in statements(config, [name], w)]
        for name in config.categories
    }
    common = common_words(texts.values())
    foreign = frozenset().union(*(content_words(t) for name in unseen for t in texts[name]))
    written = (content_words(s.text) for s in statements(config, trained, "train"))
    tests = (content_words(s.text) - common for s in statements(config, trained, "test"))
    return Apart(common, foreign.difference(common, *written), tuple(tests))


class _Generator:
    """Statements of all categories that are trained on."""

    def __init__(self, config: ContextConfig, seed: int, written: Sequence[Statement]) -> None:
        self._count = config.generated
        self._seed = seed
        self._written = written
        self._seen = {same_text(statement.text) for statement in written}
        # In the order of what they say: what a category is called decides nothing.
        names = dict.fromkeys(statement.category for statement in written)
        self._apart = apart_from(config, names)
        self._tests = [said(s.text) for s in statements(config, config.categories, "test")]
        self._rules: dict[_Side, Texts] = {}
        for name in names:
            category = config.categories[name]
            if category.grammar is not None:
                for side in category.sides:
                    rules = category.grammar.rules(config.frames, side)
                    self._rules[_Side(name, side)] = rules

    def statements(self) -> Iterator[Statement]:
        """In the order of categories and sides; of each category last those whose claims cancel."""
        for name, side in self._rules:
            polarity = POLARITIES[side]
            first = sum(s.category == name and s.polarity == polarity for s in self._written)
            for index, text in enumerate(self._texts(name, side, self._count), first):
                yield Statement(name, polarity, "train", index, text)
            if side == "unflattering":
                # Their indices let one follow on every four of each side where statements take turns.
                for i, text in enumerate(self._texts(name, CANCELLING, self._count // EACH), 1):
                    yield Statement(name, 0, "train", EACH * i, text)

    def _texts(self, name: str, kind: str, count: int) -> Iterator[str]:
        """`count` texts of a side, or of those whose claims cancel."""
        own = "\n".join(same_text(s.text) for s in self._written if s.category == name)
        rng = random.Random(f"{self._seed}/{kind}/{own}")
        refused: Counter[str] = Counter()
        found = idle = 0
        while found < count and idle < _PATIENCE:
            idle += 1
            text = (
                self._cancelling(name, rng)
                if kind == CANCELLING
                else self._one_sided(_Side(name, kind), rng)
            )
            if text is None or same_text(text) in self._seen:
                continue
            # One of common words alone is not told by its content words.
            words = said(text)
            if any(test in words for test in self._tests):
                continue
            near = self._apart.too_near(text)
            refused.update(near)
            if not near:
                self._seen.add(same_text(text))
                found, idle = found + 1, 0
                yield text
        if found < count:
            words = ", ".join(repr(word) for word, _ in refused.most_common(5))
            raise UserError(
                f"context.generated: the grammar of {name} gave {found} of {count} {kind} statements that are"
                " new and apart from test wordings and categories not trained on; add alternatives to it, or"
                " lower context.generated"
                + (f" (words refused most often begin with {words})" if words else "")
            )

    def _one_sided(self, side: _Side, rng: random.Random) -> str | None:
        """A statement of one claim or two; None where the two say nearly the same."""
        who = self._who(side, rng)
        claims = {CLAIM: self._claim(side, who, rng)}
        if rng.random() >= _SEVERAL:
            return self._statement("one", side, claims, rng)
        # Claims that go together: of one polarity, or the placebo's.
        claims[OTHER] = self._claim(
            rng.choice([s for s in self._rules if s.name in (side.name, "neutral")]), who, rng
        )
        one, other = map(self._apart.words, claims.values())
        if 3 * len(one & other) > min(len(one), len(other)):
            return None
        return self._statement("several", side, claims, rng)

    def _cancelling(self, category: str, rng: random.Random) -> str:
        """A statement of two claims of which each takes back the other."""
        name, opposite = rng.sample(["flattering", "unflattering"], 2)
        side = _Side(category, name)
        who = self._who(side, rng)
        claims = {
            CLAIM: self._claim(side, who, rng),
            OPPOSITE: self._claim(_Side(category, opposite), who, rng),
        }
        return self._statement(CANCELLING, side, claims, rng)

    def _who(self, side: _Side, rng: random.Random) -> Texts:
        """Who all claims of a statement are about, as a rule; none where the grammar has no such rule."""
        rules = self._rules[side]
        return {WHO: (expand(f"{{{WHO}}}", rules, rng),)} if WHO in rules else {}

    def _claim(self, side: _Side, who: Texts, rng: random.Random) -> str:
        return expand(f"{{{CLAIM}}}", {**self._rules[side], **who}, rng)

    def _statement(
        self, kind: str, side: _Side, claims: Mapping[str, str], rng: random.Random
    ) -> str:
        drawn = {slot: (claim,) for slot, claim in claims.items()}
        return sentences(expand(f"{{{kind}}}", {**self._rules[side], **drawn}, rng))
