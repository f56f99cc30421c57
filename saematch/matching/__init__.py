"""Which feature is which, across two layers and across all?"""
