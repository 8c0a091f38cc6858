"""An attack: a prompt in, the same prompt in other words out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from debiasdpo.elicitation.base import ElicitationPrompt

Rewrite = Callable[[ElicitationPrompt], str]


@dataclass(frozen=True)
class Attack:
    """One variant of an attack: a pure function of a prompt. `inner`: it rewrites the prompt itself, and so
    comes before any that wraps it."""

    name: str  # of all its variants: role_playing
    variant: str  # "1" to "3"
    text: Rewrite
    inner: bool = False

    @property
    def label(self) -> str:
        """As it is named in a configuration: role_playing/1."""
        return f"{self.name}/{self.variant}"

    def __call__(self, prompt: ElicitationPrompt) -> ElicitationPrompt:
        """The prompt under this attack; of one that is attacked already, under both."""
        name = self.name if prompt.attack is None else f"{prompt.attack}+{self.name}"
        variant = self.variant if prompt.attack is None else f"{prompt.variant}+{self.variant}"
        return replace(
            prompt,
            id=f"{prompt.base}+{name}/{variant}",
            text=self.text(prompt),
            attack=name,
            variant=variant,
        )


@dataclass(frozen=True)
class Chain:
    """Attacks one after the other; the last one's words are outermost."""

    attacks: tuple[Attack, ...]

    @property
    def label(self) -> str:
        """obfuscation/3+role_playing/1."""
        return "+".join(attack.label for attack in self.attacks)

    def __call__(self, prompt: ElicitationPrompt) -> ElicitationPrompt:
        for attack in self.attacks:
            prompt = attack(prompt)
        return prompt

    def instead(self, others: Mapping[str, Attack]) -> "Chain":
        """The same with other attacks for those of these labels."""
        return Chain(tuple(others.get(attack.label, attack) for attack in self.attacks))
