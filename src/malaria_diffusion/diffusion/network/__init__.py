"""The U-Net and what makes it fast."""
