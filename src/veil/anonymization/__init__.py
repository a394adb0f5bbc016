"""Stage 1: mask, repaint, write. It knows no judge and no attack."""
