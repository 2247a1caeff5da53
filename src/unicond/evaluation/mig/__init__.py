"""COCO-MIG: several things of one picture, each with its colour and its box."""

DETECTOR, SEGMENTER = "IDEA-Research/grounding-dino-tiny", "facebook/sam-vit-huge"
"""Hub ids of the published evaluation's networks: Grounding DINO with Swin-T, SAM with ViT-H."""
