"""Entry point of ``python -m napari_sam_lora.cli``."""

import sys

from napari_sam_lora.cli import main

sys.exit(main())
