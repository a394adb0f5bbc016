"""Lightning modules that train the face inpainter and fine-tune recognisers; free of Hydra."""
