//! From files to global batches of token sequences.
