"""Data: manifests read and checked, codes cached, and endless batches of audio or codes from Grain.

No model code: what encodes audio is handed in. The public names are in __init__.pyi and are imported when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
