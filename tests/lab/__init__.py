"""The lab: real servers on loopback for the system tests and the demo.

Postfix, Redis and their tools run from an unpacked tree under `.build/root` (see `unpack`), with
configuration, queue and data in a work folder of their own. Nothing on the machine is installed, configured
or started outside of it.
"""
