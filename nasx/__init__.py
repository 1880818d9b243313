"""nasx searches for image classifiers that are accurate and whose inside people can understand.

Three nouns carry everything.

A **space** turns a genotype into a network (`nasx.spaces`).
A **scorer** says how introspectable a trained network is (`nasx.introspection`).
An **algorithm** asks for genotypes and is told objectives (`nasx.algorithms`).

A **trial** is one architecture trained and scored once; a **run** is a set of trials in one directory.
"""

__version__ = "0.1.0"
