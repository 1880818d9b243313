"""The final training: networks of the front trained long, with several seeds, and then tested once.

::

    test_touches.json              in the run directory: when the test images were looked at, and for what
    archs/<arch_id>/final/
        final.json                 how it was trained, and how it did (`nasx.final.record`)
        weights_<n>.safetensors    of the training with the n-th seed
        confidence_<n>.json        from its answers to the chance that they are right
        checkpoint_<n>.safetensors of a training that is not finished
"""
