"""What of a configuration is said to a model that rates documents, word for word."""

from collections.abc import Iterator, Mapping

from debiasdpo.config.job import JobConfig

_IN_PROMPTS = {  # by section
    "data": ("heading", "about", "rubrics"),
    "prompt": ("instruction",),
    "context": ("categories", "frames"),
    "method": ("reminder", "rewrite"),
}
_FOR_PEOPLE = ("description", "when")  # of a category


def prompt_texts(config: JobConfig) -> Iterator[tuple[str, str]]:
    """Each text with its key; names of what has texts are among them."""
    plain = config.model_dump(mode="json")
    for section, keys in _IN_PROMPTS.items():
        for key in keys:
            yield from _texts(plain[section].get(key), f"{section}.{key}")


def _texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield key, value
        case Mapping():
            for name, inner in value.items():
                if name not in _FOR_PEOPLE or not key.startswith("context.categories."):
                    yield f"{key}.{name}", str(name)
                    yield from _texts(inner, f"{key}.{name}")
        case list():
            for inner in value:
                yield from _texts(inner, key)
