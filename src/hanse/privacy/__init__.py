"""What privacy is computed with: primitives of a sum that nobody sees in parts (:mod:`hanse.gathering.secure`).

=================  =======================================================================================
``agreement``      a secret of two nodes that passes through somebody who must not know it (X25519, HKDF)
``sealing``        a message of one node to another, through the same hands (AES-GCM)
``shamir``         a secret in shares, of which so many are needed and fewer tell nothing
``keystream``      a short secret spread out over a long vector (AES-CTR)
``fixed_point``    numbers as whole numbers modulo a power of two, whose sums are exact
``neighbours``     who masks with whom, and how many shares are needed
=================  =======================================================================================

Every function is pure but for those that draw, which draw from the system's source of randomness.
"""
