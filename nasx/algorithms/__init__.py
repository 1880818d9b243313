"""Search algorithms: they ask for genotypes and are told what they cost.

Each is a `nasx.protocols.SearchAlgorithm` built on `base.Algorithm`, which numbers the candidates, takes in the
answers in a repeatable order and never asks for a network twice; an algorithm itself says only how a candidate is
made and what an answer changes. Algorithms receive gene sizes and callables, never a space, a network or a store.
"""
