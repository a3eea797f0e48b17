"""How an image says to any program that a model made it: XMP metadata with IPTC's digital source type.

https://iptc.org/std/photometadata/specification (Digital Source Type), https://cv.iptc.org/newscodes/digitalsourcetype;
how it lies in a PNG file: XMP specification, part 3, section 1.1.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# the iTXt chunk of a PNG file in which XMP lies
XMP_KEY: Final = "XML:com.adobe.xmp"
# made by a model that learned from other images; algorithmicMedia, as phantom cells are, is "created purely by an
# algorithm not based on any sampled training data"
TRAINED: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'Iptc4xmpExt:DigitalSourceType="{TRAINED}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def says_trained(info: Mapping[Any, Any]) -> bool:
    """Whether a file says in XMP that a trained model made all of it; of any program, in any format with XMP.

    Args:
        info: Of Pillow's image, where XMP is text in PNG files and bytes in others.
    """
    xmp = info.get(XMP_KEY, info.get("xmp", b""))
    return TRAINED.encode() in (xmp.encode() if isinstance(xmp, str) else xmp)
