"""Select clean single hits from X-ray single-particle imaging data.

The notebooks import one room of this package for each stage of the work; the rooms
hand data to each other through files in a work folder. Start with
`helpers.patterns.open_patterns`.
"""

__version__ = "0.1.0"
