"""IDA-RD: how much information does a downscaler lose? (Liang et al., CVPR 2024, arXiv 2403.15139)."""

__version__ = "1.0.0"
