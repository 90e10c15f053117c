"""Was a text in a language model's training data? Membership scores and the tests that make something of them.

| score | source |
|---|---|
| loss | mean log-likelihood (Yeom et al. 2018) |
| zlib | log-likelihood over compressed size (Carlini et al. 2021) |
| min_k | mean of the k % least likely tokens (Shi et al. 2024) |
| min_k_plus_plus | the same of log-likelihoods normalised by the model's own spread (Zhang et al. 2024) |

Higher means more like a member. A difference between benchmark and reference texts may be one of genre or time, not of
membership: so a blind classifier, that sees words and no model, is run beside (Das et al. 2024), and where it separates
them as well, scores mean nothing. The ordering test (Oren et al. 2023) needs no reference: a model that never saw a file
has no reason to prefer its order of examples.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_crosstask.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Floats = NDArray[np.float64]
SCORES = ("loss", "zlib", "min_k", "min_k_plus_plus")


@dataclass(frozen=True, eq=False)
class TokenScores:
    """Log-likelihood of each token of a text but the first, and the model's own expectation of it.

    Attributes:
        log_likelihood: [L - 1].
        mean, deviation: [L - 1] mean and standard deviation of the log-likelihood under the model's distribution.
    """

    log_likelihood: Floats
    mean: Floats
    deviation: Floats


def token_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int
) -> list[TokenScores | None]:
    """Scores of each text's tokens; None for texts of fewer than two tokens. Texts are cut at `max_length` tokens."""
    import torch

    found: list[TokenScores | None] = []
    model.eval()
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")["input_ids"]
        if ids.shape[1] < 2:
            found.append(None)
            continue
        with torch.no_grad():
            logits = model(input_ids=ids.to(model.device)).logits[0, :-1].float()
            logs = logits.log_softmax(-1)
            probabilities = logs.exp()
            mean = (probabilities * logs).sum(-1)
            variance = (probabilities * logs.square()).sum(-1) - mean.square()
            own = logs.gather(-1, ids[0, 1:, None].to(logs.device))[:, 0]
        values = (own, mean, variance.clamp_min(1e-12).sqrt())
        found.append(TokenScores(*(value.double().cpu().numpy() for value in values)))
    return found


def membership_scores(text: str, scores: TokenScores, *, share: float = 0.2) -> dict[str, float]:
    """All scores of one text; of at least one token, however short the text."""
    own = scores.log_likelihood
    least = max(1, int(np.ceil(share * len(own))))
    normalised = (own - scores.mean) / scores.deviation
    return {
        "loss": float(own.mean()),
        "zlib": float(own.sum() / len(zlib.compress(text.encode()))),
        "min_k": float(np.sort(own)[:least].mean()),
        "min_k_plus_plus": float(np.sort(normalised)[:least].mean()),
    }


def auroc(members: Floats, others: Floats) -> float:
    """Probability that a member's score is above another's; ties count half. Rank-biserial correlation is 2 x - 1."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([members, others]))
    return float((ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2) / (len(members) * len(others)))


def auroc_interval(
    members: Floats,
    others: Floats,
    clusters: Sequence[str],
    *,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval: documents of the members and texts of the others are drawn with replacement."""
    generator = np.random.default_rng(seed)
    names, index = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)
    rows = [np.flatnonzero(index == number) for number in range(len(names))]
    values = []
    for _ in range(replicates):
        drawn = np.concatenate([rows[number] for number in generator.integers(0, len(rows), len(rows))])
        values.append(auroc(members[drawn], others[generator.integers(0, len(others), len(others))]))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def blind_auroc(members: Sequence[str], others: Sequence[str], *, seed: int = 0) -> float:
    """How well word n-grams alone tell the two sets apart: cross-validated, no language model involved.

    Raises:
        InputError: a set has fewer than five texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    if min(len(members), len(others)) < 5:
        raise InputError("contamination needs at least five texts on each side")
    classifier = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\S+"),
        LogisticRegression(max_iter=1000, class_weight="balanced"),
    )
    labels = np.repeat([1, 0], [len(members), len(others)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    scores = cross_val_predict(classifier, [*members, *others], labels, cv=folds, method="decision_function")
    return auroc(scores[labels == 1], scores[labels == 0])


@dataclass(frozen=True)
class OrderingTest:
    """`canonical` log-likelihood of the file in its own order against `permutations` shuffled ones; `p` one-sided."""

    canonical: float
    shuffled_mean: float
    permutations: int
    p: float


def ordering_test(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int,
    permutations: int = 19,
    seed: int = 0,
) -> OrderingTest:
    """Does the model prefer the order in which a file lists its examples?

    Examples are joined by blank lines and read in windows of `max_length` tokens. Under the null hypothesis all orders
    are alike, so p is exact: the rank of the file's own order among the permutations.
    """
    generator = np.random.default_rng(seed)
    canonical = _log_likelihood(model, tokenizer, texts, max_length)
    shuffled = [
        _log_likelihood(model, tokenizer, [texts[i] for i in generator.permutation(len(texts))], max_length)
        for _ in range(permutations)
    ]
    above = sum(value >= canonical for value in shuffled)
    return OrderingTest(canonical, float(np.mean(shuffled)), permutations, (1 + above) / (1 + permutations))


def _log_likelihood(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> float:
    import torch

    ids = tokenizer("\n\n".join(texts), return_tensors="pt", verbose=False)["input_ids"][0]
    total = 0.0
    model.eval()
    for start in range(0, len(ids) - 1, max_length - 1):
        window = ids[start : start + max_length][None].to(model.device)
        if window.shape[1] < 2:
            break
        with torch.no_grad():
            logs = model(input_ids=window).logits[0, :-1].float().log_softmax(-1)
        total += float(logs.gather(-1, window[0, 1:, None])[:, 0].double().sum())
    return total


def interpretable(scores: Mapping[str, float], blind: float) -> bool:
    """Whether any score separates the sets better than words alone do."""
    return max(scores.values()) > max(blind, 1 - blind)
