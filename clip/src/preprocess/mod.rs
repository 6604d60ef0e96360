//! Images on disk → pixels as the checkpoint expects them.
