"""A network as a file for another runtime, checked against the network before it is kept.

Rooms: ``plan`` (what is asked for), ``folding``, ``inputs``, ``trace`` and ``write`` (making the
file), ``feed``, ``examples`` and ``check`` (comparing it), ``samples``, ``ranges``, ``quantizers``
and ``int8`` (8 bits), ``keeping`` and ``certificate`` (what stays), ``export`` (all of it).
"""
