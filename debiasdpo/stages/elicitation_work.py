"""What a job of task=elicitation asks at most, before any of it is asked: tokens, and money."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from debiasdpo.config.elicitation import ClearbiasConfig
from debiasdpo.config.job import JobConfig
from debiasdpo.config.model import EndpointConfig
from debiasdpo.elicitation.attacks import Attack, choose
from debiasdpo.elicitation.attacks.translation import (
    LANGUAGES,
    is_translation,
    messages,
    translation_attack,
)
from debiasdpo.elicitation.base import ElicitationPrompt
from debiasdpo.elicitation.judge import judge_messages, second_look_messages
from debiasdpo.elicitation.options import messages_of
from debiasdpo.elicitation.pairs import asked_to_learn, hold_out, neutral_wording
from debiasdpo.elicitation.prompts import Elicited, chosen_attacked, read_control, read_prompts
from debiasdpo.models.chat import Chat
from debiasdpo.prompts.rendering import Messages
from debiasdpo.stages.elicitation import (
    BASE,
    JUDGED,
    LABELS,
    OPTIONS,
    PAIRS,
    REFERENCE,
    TRAINING,
    TUNED,
    attacks,
    stages_of,
)
from debiasdpo.stages.endpoint_work import asking_work
from debiasdpo.storage.files import fingerprint
from debiasdpo.sweep.plan import Asks, StageWork

_ORDERS = 2  # in which options are asked
# Titles of those that only say which categories are attacked: here, all are.
_CHOOSING = {stage.title for stage in (OPTIONS, LABELS, TUNED.options, TUNED.labels)}


def elicitation_work(
    config: JobConfig, chat_of: Callable[[JobConfig], Chat], trained: str | None = None
) -> list[StageWork]:
    """Of each stage that runs a model. Whatever depends on replies is reckoned at its most: every category is
    attacked, every reply is as long as it may be, every attacked one is a refusal to be looked at again.
    `trained`: the key of a training on documents, whose model is asked too."""
    asked = _asked(config)
    asked |= {f"tuned_{stage.title}": asked[stage.title] for stage in BASE}
    judge = config.of_judge
    keys = {} if trained is None else {TRAINING.title: trained}
    found = []
    for stage in stages_of(config):
        # A judge's prompts hold replies that are not known yet, and a trained model is not known either: the
        # keys of the stages that make them stand for them.
        behind = [keys[title] for title in stage.after if title in keys.keys() - _CHOOSING]
        if stage.title not in asked:
            if stage in (PAIRS, REFERENCE, TRAINING):
                keys[stage.title] = fingerprint(stage.inputs(config, after=behind))
            continue
        who = judge if stage.title in JUDGED and judge is not None else config
        prompts, reading = asked[stage.title], stage.reading(config)
        paid: float | None = 0.0
        if isinstance(who.model, EndpointConfig):
            tokens, paid = asking_work(who, prompts, "text", reading)
        else:
            written = None if stage.store == "options" else reading.max_new_tokens
            tokens = _local_tokens(chat_of(who), prompts, written)
        rater = who.model.model_dump(mode="json")
        inputs = stage.inputs(config, rater=rater, prompts=prompts, after=behind)
        keys[stage.title] = key = fingerprint(inputs)
        asks: Asks = "model" if who.model == config.model else "judge"
        found.append(StageWork(stage.title, key, tokens, dollars=paid, asks=asks))
    if config.learns_prompts:
        found += _training(config, asked["learnt_replies"], chat_of(config), keys)
    return found


def _training(
    config: JobConfig, asked: Sequence[Messages], chat: Chat, keys: Mapping[str, str]
) -> Iterator[StageWork]:
    """If every reply is stereotyped and makes a pair: two texts behind each prompt."""
    tokens = _local_tokens(chat, asked, 2 * config.rate.max_new_tokens)
    if REFERENCE.needed(config):
        yield StageWork(REFERENCE.title, keys[REFERENCE.title], tokens)
    epochs = config.train.epochs
    yield StageWork(TRAINING.title, keys[TRAINING.title], epochs * tokens, trains=True)


def _asked(config: JobConfig) -> dict[str, list[Messages]]:
    """By the titles of stages."""
    elicited = read_prompts(config.prompts)
    learnt = Elicited([])
    if config.learns_prompts:
        learnt, elicited = hold_out(elicited, config.elicitation.train_categories or ())
    contexts = asked_to_learn(learnt.prompts, config.elicitation.train_attacks)
    attacked = _attacked(config, elicited)
    translated = [
        (attack.variant, prompt.text)
        for attack in _translations(config)
        for prompt in elicited.prompts
    ]
    reply = " word" * config.rate.max_new_tokens
    control = read_control(config.prompts) if isinstance(config.prompts, ClearbiasConfig) else []
    found: dict[str, list[Messages]] = {
        "control": [judge_messages(item.prompt, item.reply) for item in control],
        "neutral_replies": [messages_of(neutral_wording(base)) for base in learnt.prompts],
        "neutral_labels": [judge_messages(base.text, reply) for base in learnt.prompts],
        "learnt_replies": [messages_of(prompt) for prompt in contexts],
        "learnt_labels": [judge_messages(prompt.text, reply) for prompt in contexts],
        "options": [messages_of(prompt) for prompt in elicited.prompts],
        "replies": [messages_of(prompt) for prompt in elicited.prompts],
        "labels": [judge_messages(prompt.text, reply) for prompt in elicited.prompts],
        "translations": [messages(text, "English", LANGUAGES[v]) for v, text in translated],
        "translated_back": [messages(text, LANGUAGES[v], "English") for v, text in translated],
        "attacked_options": [messages_of(prompt) for prompt in attacked],
        "attacked_replies": [messages_of(prompt) for prompt in attacked],
        "attacked_labels": [judge_messages(prompt.text, reply) for prompt in attacked],
        "second_look": [second_look_messages(prompt.text, reply) for prompt in attacked],
    }
    return found


def _attacked(config: JobConfig, elicited: Elicited) -> Sequence[ElicitationPrompt]:
    """Attacks on the prompts of all categories; a translation counts as long as its prompt."""
    if not attacks(config):
        return []
    if config.elicitation.attacks == "published":
        assert isinstance(config.prompts, ClearbiasConfig)
        asked = {prompt.id for prompt in elicited.prompts}
        found = chosen_attacked(config.prompts, config.elicitation.variants)
        return [prompt for prompt in found if prompt.base in asked]
    texts = {prompt.id: prompt.text for prompt in elicited.prompts}
    known = {a.label: translation_attack(a.variant, texts) for a in _translations(config)}
    chains = [chain.instead(known) for chain in choose(config.elicitation.variants)]
    return [chain(prompt) for chain in chains for prompt in elicited.prompts]


def _translations(config: JobConfig) -> list[Attack]:
    """Each translation among the attacks that are generated, once."""
    if config.elicitation.attacks != "generated":
        return []
    chains = choose(config.elicitation.variants)
    every = (attack for chain in chains for attack in chain.attacks if is_translation(attack))
    return list({attack.label: attack for attack in every}.values())


def _local_tokens(chat: Chat, prompts: Sequence[Messages], written: int | None) -> float:
    """Of forward passes; what packed prompts share is counted for each of them. `written`: tokens of a reply;
    None where only options are read, in both orders."""
    lengths = (len(chat.prompt_ids(messages)) for messages in prompts)
    if written is None:
        return float(_ORDERS * sum(lengths))
    return float(sum(length + written for length in lengths))
