"""Which cells?"""
