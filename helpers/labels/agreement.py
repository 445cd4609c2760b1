"""How far several labellers agree, and what they agree on."""

import numpy as np
from numpy.typing import NDArray

from helpers.labels.schema import LABELS, WORD_DTYPE


def consensus(votes: NDArray[np.integer]) -> NDArray[np.str_]:
    """Return the word that most labellers gave, `unsure` where the best two tie.

    Parameters
    ----------
    votes
        int (n_patterns, 5): for each pattern how many labellers gave each word, in
        the order of `LABELS`.

    Returns
    -------
        str (n_patterns,); "" where nobody voted.
    """
    most = votes.max(axis=1, keepdims=True, initial=0)
    words: NDArray[np.str_] = np.array(LABELS, WORD_DTYPE)[votes.argmax(axis=1)]
    words[(votes == most).sum(axis=1) > 1] = "unsure"
    words[most[:, 0] == 0] = ""
    return words


def count_votes(words: NDArray[np.str_]) -> NDArray[np.int64]:
    """Count how many labellers gave each word to each pattern.

    Parameters
    ----------
    words
        str (n_patterns, n_labellers): the current label of each labeller; "" = none.

    Returns
    -------
        int64 (n_patterns, 5), in the order of `LABELS`.
    """
    return np.stack([(words == word).sum(axis=1) for word in LABELS], axis=1)


def disagreements(words: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the patterns to which labellers gave different words.

    Parameters
    ----------
    words
        str (n_patterns, n_labellers): the current label of each labeller; "" = none.

    Returns
    -------
        int64 (n_disagreements,): indices of patterns, ascending.
    """
    return np.flatnonzero((count_votes(words) > 0).sum(axis=1) > 1)


def cohen_kappa(first: NDArray[np.str_], second: NDArray[np.str_]) -> float:
    """Return Cohen's kappa of two labellers: 1 agree always, 0 as often as by chance.

    Parameters
    ----------
    first, second
        str (n_patterns,): the labels of each; "" = none. Only patterns that both have
        labelled count; `unsure` is a word like the others.

    Returns
    -------
        NaN where nothing can be said: no pattern in common, or one word throughout.

    References
    ----------
    Cohen, Educ. Psychol. Meas. 20, 37 (1960), doi:10.1177/001316446002000104.
    """
    from sklearn.metrics import cohen_kappa_score

    both = (first != "") & (second != "")
    if len(set(first[both]) | set(second[both])) < 2:
        return float("nan")
    return float(cohen_kappa_score(first[both], second[both]))


def chance_agreement(first: NDArray[np.str_], second: NDArray[np.str_]) -> float:
    """Return the share of patterns that two labellers would agree on by chance.

    Parameters
    ----------
    first, second
        str (n_patterns,): the labels of each; "" = none. Only patterns that both have
        labelled count.
    """
    both = (first != "") & (second != "")
    shares = [
        (first[both] == word).mean() * (second[both] == word).mean() for word in LABELS
    ]
    return float(sum(shares))


def fleiss_kappa(words: NDArray[np.str_]) -> float:
    """Return Fleiss' kappa of any number of labellers.

    Parameters
    ----------
    words
        str (n_patterns, n_labellers): the current label of each labeller; "" = none.
        Only patterns that all have labelled count; `unsure` is a word like the others.

    Returns
    -------
        NaN where nothing can be said: fewer than two labellers, no pattern in common,
        or one word throughout.

    References
    ----------
    Fleiss, Psychol. Bull. 76, 378 (1971), eqs. 1 to 7, doi:10.1037/h0031619.
    """
    n_labellers = words.shape[1]
    votes = count_votes(words[(words != "").all(axis=1)])
    shares = votes.sum(axis=0) / max(votes.sum(), 1)
    by_chance = (shares**2).sum()
    if n_labellers < 2 or len(votes) == 0 or np.count_nonzero(shares) < 2:
        return float("nan")
    pairs = (votes * (votes - 1)).sum(axis=1) / (n_labellers * (n_labellers - 1))
    return float((pairs.mean() - by_chance) / (1 - by_chance))
