"""All attacks by name, and how a choice of them is written."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from debiasdpo.elicitation.attacks import obfuscation, translation
from debiasdpo.elicitation.attacks.attack import Attack, Chain, Rewrite
from debiasdpo.errors import UserError

_PLACE = "{prompt}"


def _wrapping(template: str) -> Rewrite:
    return lambda prompt: template.replace(_PLACE, prompt.text.strip())


def _catalog() -> Iterator[Attack]:
    rewrites = (obfuscation.vowels, obfuscation.symbols, obfuscation.base64_text)
    for number, rewrite in enumerate(rewrites, 1):
        yield Attack("obfuscation", str(number), rewrite, inner=True)
    file = Path(__file__).with_name("templates.yaml")
    templates: Mapping[str, Mapping[str, str]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, variants in templates.items():
        for variant, template in variants.items():
            yield Attack(name, variant, _wrapping(template))
    for variant in translation.LANGUAGES:
        yield translation.translation_attack(variant, {})  # until texts are translated


ATTACKS: Mapping[str, Attack] = {attack.label: attack for attack in _catalog()}


def choose(names: Sequence[str] | None) -> list[Chain]:
    """The attacks that are named, each once, in their order; None: all that need no model, one by one.

    A name is an attack (role_playing: all its variants), a variant (role_playing/1), or several of these
    joined by +, of which the last is outermost: obfuscation/3+role_playing is Base64 in each of three
    stories. `UserError` for a name that there is not, and where what rewrites the prompt itself (obfuscation,
    machine_translation) would not come first.
    """
    alone = [label for label, attack in ATTACKS.items() if not translation.is_translation(attack)]
    wanted = alone if names is None else names
    found: dict[str, Chain] = {}
    for name in wanted:
        variants = [_variants(part.strip(), name) for part in name.split("+")]
        for attacks in itertools.product(*variants):
            chain = Chain(attacks)
            if any(attack.inner for attack in attacks[1:]):
                raise UserError(
                    f"{name}: {next(a.name for a in attacks[1:] if a.inner)} rewrites the prompt itself,"
                    " and can only come first"
                )
            found[chain.label] = chain
    return list(found.values())


def _variants(part: str, whole: str) -> list[Attack]:
    found = [attack for attack in ATTACKS.values() if part in (attack.name, attack.label)]
    if not found:
        known = ", ".join(dict.fromkeys(attack.name for attack in ATTACKS.values()))
        within = "" if part == whole else f" in {whole}"
        raise UserError(
            f"no such attack: {part or 'nothing'}{within}; there are {known}, each in 3 variants, such as"
            " role_playing/1"
        )
    return found
