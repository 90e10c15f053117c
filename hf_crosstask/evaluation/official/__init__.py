"""The official scorers of the shared tasks, one module each, with their conventions reproduced.

Every module offers the same parts, as pure functions over plain data:

- `parse…` / `format…`: the official submission format as text, both ways;
- `…counts(gold, predicted) -> UnitCounts`: sufficient statistics per document (query, pair, example);
- `from_counts(sums) -> {metric: value}`: the metrics of summed statistics, broadcasting over leading axes, so that a
  cluster bootstrap recomputes every metric without touching predictions again;
- `score(gold, predicted) -> {metric: float}`: the two together. Values lie in [0, 1] (correlations in [-1, 1]).

`metric.OfficialScorer(config_name=…)` wraps each of them as an `evaluate.Metric` that needs no network.
"""

from __future__ import annotations
