"""From photos to aligned faces, and from pixels to files."""
