"""The YOLOv8 classifier: trained, asked, and judged."""
