//! What a test needs: a scripted LM.
