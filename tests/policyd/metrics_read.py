"""The exposition read back by prometheus-client's parser, which is not ours."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class Exposition:
    """Samples by name and labels."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples: dict[tuple[str, Labels], float] = {}
        for family in self.families:
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples, f"{key} stands there twice"
                self.samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        """One sample, all labels given; None: there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that have these labels, whatever others."""
        wanted = set(labels.items())
        return sum(value for (one, has), value in self.samples.items() if one == name and wanted <= has)

    def names(self) -> set[str]:
        """Of all metrics, those without a sample included, as a query would name them."""
        names: set[str] = set()
        for family in self.families:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            names |= {name}
            if family.type == "histogram":
                names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
        return names
