"""Policies that people write, in the Cedar language: what they can ask about, how they are read, what they decide.

Cedar (Cutler et al., "Cedar: A New Language for Expressive, Fast, Safe, and Analyzable Authorization", OOPSLA 2024) is
evaluated in process, by ``cedarpy``. A node asks its owner's policies as one rule of its gate
(:mod:`hanse.policy.policy_file`), a coordinator those of its operator. What counts is the same everywhere:

- a ``forbid`` that fits is a no, whatever permits;
- no ``permit`` that fits is a no;
- what cannot be evaluated is a no: in Cedar itself a ``forbid`` that raises an error is passed over;
- a name that there is not is an error when policies are read, and so is an attribute that may be absent and is read
  without a look whether it is there.
"""
