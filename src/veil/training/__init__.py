"""Lightning modules that train the face inpainter; free of Hydra."""
