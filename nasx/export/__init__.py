"""Networks that leave the house: files that take pixels and give probabilities and a confidence, and their use.

::

    archs/<arch_id>/export/        or wherever --out says
        model.onnx                 preprocessing, network and confidence in one graph, for any ONNX runtime
        model.pt2                  the same for torch alone (torch.export)
        model.safetensors          weights alone, without pickle; the architecture in its header
        model.json                 what every one of these files says of itself as well (`nasx.export.deployed`)
        README.md                  the model card
"""
