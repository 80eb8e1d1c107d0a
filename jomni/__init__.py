"""jomni: end-to-end speech dialogue in JAX.

The public names are in __init__.pyi. They are imported when first used, so that `import jomni` and the command line's
help stay quick.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
