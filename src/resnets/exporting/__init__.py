"""A network as a file for another runtime, checked against the network before it is kept.

Rooms: ``plan`` (what is asked for), ``folding``, ``inputs``, ``trace`` and ``write`` (making the
file), ``raw_pixels``, ``examples`` and ``parity`` (comparing it), ``calibration``, ``ranges``,
``quantizers`` and ``int8`` (8 bits), ``keeping``, ``contract`` and ``certificate`` (what stays),
``export`` (all of it) and ``triton`` (where that server looks for it).
"""
