"""Words that say so little that they are not searched for.

The English ones are those of Lucene's English analyzer (Apache-2.0).
"""

_ENGLISH = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)

STOP_WORDS = {"en": frozenset(_ENGLISH.split())}
