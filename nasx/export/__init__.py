"""Export of trained networks to files that map pixels to probabilities and a confidence, and prediction with them.

::

    archs/<arch_id>/export/        or the directory of --out
        model.onnx                 preprocessing, network and confidence in one graph, for any ONNX runtime
        model.pt2                  the same for torch.export, needs only torch
        model.safetensors          only weights, without pickle; the architecture is in its header
        model.json                 description of the model, also contained in each model file (`nasx.export.deployed`)
        preprocess.py              code that reads image files for the model, without nasx
        README.md                  model card of all these files
"""
