"""Cell images in: reading archives, packing into a memory map, patient-aware splits, phantom cells."""
