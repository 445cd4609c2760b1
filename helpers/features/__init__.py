"""Numbers that tell patterns apart, however a particle lies: features and the encoder.

Rings and fringes need no training; the encoder has seen simulated particles of every
shape. Rankings, the network and the map stand on them.
"""

from helpers.features.pattern_features import (
    FARTHEST,
    N_NUMBERS,
    N_SUMMARY,
    FirstGuess,
    PatternFeatures,
    guess_particles,
    keep_features,
    name_encoder,
    standardise,
)

__all__ = [
    "FARTHEST",
    "N_NUMBERS",
    "N_SUMMARY",
    "FirstGuess",
    "PatternFeatures",
    "guess_particles",
    "keep_features",
    "name_encoder",
    "standardise",
]
