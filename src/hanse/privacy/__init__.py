"""What privacy is computed with: primitives of a sum that nobody sees in parts (:mod:`hanse.gathering.secure`), and of
noise that is calibrated (differential privacy).

=================  =======================================================================================
``agreement``      a secret of two nodes that passes through somebody who must not know it (X25519, HKDF)
``sealing``        a message of one node to another, through the same hands (AES-GCM)
``shamir``         a secret in shares, of which so many are needed and fewer tell nothing
``keystream``      a short secret spread out over a long vector (AES-XTS)
``fixed_point``    numbers as whole numbers modulo a power of two, whose sums are exact
``neighbours``     who masks with whom, and how many shares are needed
``clipping``       a vector that is spread over several arrays, no longer than a bound; the bound may adapt
``gaussian``       how much normal noise makes a sum private, exactly (Balle and Wang)
``drawing``        random numbers from a key that nobody else has
``discrete_gaussian``  noise of whole numbers, drawn exactly (Canonne, Kamath and Steinke)
``concentrated``   what the noise of several releases costs together
``empirical``      the least ε that what an attacker found can come from
``accounting``     the same where each round takes a random sample, by dp-accounting
=================  =======================================================================================

Every function is pure but for those that draw, which draw from the system's source of randomness.
"""
