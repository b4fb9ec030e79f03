"""Learned pairs: a downscaler whose LR image its own upscaler reads. One module a family."""
