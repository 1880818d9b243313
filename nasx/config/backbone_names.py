"""Names of pretrained networks in `space.backbone`: a network of nasx, one of a library, or code."""

from __future__ import annotations

from typing import Final

LIBRARIES: Final = ("timm", "torchvision", "transformers")
FORMS: Final = (*(f"{library}:NAME" for library in LIBRARIES), "module:factory")


def library_of(backbone: str) -> tuple[str, str]:
    """Return the library of a network and its name there; ("", backbone) if it is of no library.

    >>> library_of("timm:resnet18"), library_of("my_models:resnet")
    (('timm', 'resnet18'), ('', 'my_models:resnet'))
    """
    library, _, name = backbone.partition(":")
    return (library, name) if name and library in LIBRARIES else ("", backbone)


def is_code(backbone: str) -> bool:
    """Return whether a name is that of a function, "module:factory", which is imported and called.

    >>> is_code("my_models:resnet"), is_code("timm:resnet18"), is_code("efficientnet_lite0")
    (True, False, False)
    """
    return ":" in backbone and not library_of(backbone)[0]
