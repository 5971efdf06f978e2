"""The operations: pointwise ones in :mod:`.pointwise`, those that know about axes in :mod:`.structural`."""
